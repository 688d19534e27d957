package p2p

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
)

// pipe copies between a connection and a stream until either ends, either way, or the host
// closes; then it ends both and returns. There are no half-open tunnels: whoever carries a
// conversation through one has to notice its end.
func pipe(ctx context.Context, c net.Conn, s network.Stream) {
	end := sync.OnceFunc(func() {
		_ = s.Reset() // not Close, which would wait for a peer that may be dead
		_ = c.Close() // this machine's own socket
	})
	defer end()
	defer context.AfterFunc(ctx, end)()
	there := make(chan struct{})
	go func() {
		defer close(there)
		defer end()
		copyAll(s, c)
	}()
	copyAll(c, s)
	end()
	<-there
}

// copyAll copies until an end or an error, which mean the same here. The wrapping hides
// ReadFrom and WriteTo, which would have the kernel splice and keep half-closed sockets.
func copyAll(to io.Writer, from io.Reader) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
}
