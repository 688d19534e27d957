//go:build !linux

package meter

import (
	"errors"
	"fmt"
	"runtime"
)

// queryKernel cannot be answered here.
func queryKernel() (kernel, error) {
	return kernel{}, fmt.Errorf("asking the kernel for its clock on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
