package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/store"
)

// exportArchive writes all that a stopped home's ledger has into one file.
func exportArchive(dir, file string, s streams) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return &problem{code: exitUsage, err: fmt.Errorf("writing the archive: %w", err)}
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already if all went well
	bar := archiveBar(s, "writing "+filepath.Base(file))
	a, err := consensus.WriteArchive(filepath.Join(dir, household.EngineFolder), tmp, func(int64) { _ = bar.Add(1) })
	_ = bar.Finish()
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	switch {
	case errors.Is(err, store.ErrInUse), errors.Is(err, consensus.ErrInUse):
		return &problem{exitFailed, err, "its agent is running" + runningAs(dir) + ": end it first"}
	case errors.Is(err, fs.ErrNotExist):
		return &problem{exitFailed, fmt.Errorf("%s has no ledger yet", dir), "it begins with `commonwatt run --home " + dir + "`"}
	case err != nil:
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	fmt.Fprintf(s.err, "blocks %d to %d and %d lines of history written to %s, %d bytes\n", a.Base, a.Height, a.Lines, file, a.Bytes)
	_, err = fmt.Fprintf(s.out, "%x\n", a.Sum)
	return err
}

func archiveBar(s streams, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(-1, progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetVisibility(visible(s)))
}

// archivesChecked is what the check of archives says.
type archivesChecked struct {
	OK          bool                 `json:"ok"`
	GenesisHash string               `json:"genesis_hash"`
	Height      int64                `json:"height"`
	AppHash     string               `json:"app_hash"`
	Households  int                  `json:"households"`
	Archives    []consensus.Archived `json:"archives"`
}

// isArchive says whether what a person names to check is files.
func isArchive(paths []string) bool {
	info, err := os.Stat(paths[0])
	return err == nil && info.Mode().IsRegular() || len(paths) > 1
}

// checkArchives executes all blocks of archives again, those of the first one first.
func checkArchives(files []string, trust, output string, s streams) error {
	var want *[32]byte
	if trust != "" {
		raw, err := hex.DecodeString(trust)
		if err != nil || len(raw) != 32 {
			return usagef("--trust: got %q, want 64 hexadecimal digits, as `commonwatt ledger genesis-hash` prints them", trust)
		}
		want = (*[32]byte)(raw)
	}
	bar := archiveBar(s, "executing blocks")
	c := &consensus.ArchiveCheck{Progress: func(int64) { _ = bar.Add(1) }}
	answer := archivesChecked{OK: true}
	for _, file := range files {
		a, err := checkArchive(c, file, want)
		if err != nil {
			_ = bar.Finish()
			return archiveProblem(file, err)
		}
		answer.Archives = append(answer.Archives, a)
		answer.GenesisHash = a.GenesisHash
	}
	_ = bar.Finish()
	hash := c.AppHash()
	answer.Height, answer.AppHash, answer.Households = c.Height(), hex.EncodeToString(hash[:]), c.Households()
	if want == nil {
		fmt.Fprintf(s.err, "the archive says itself which community it is of: compare the genesis hash, or give it with --trust\n")
	}
	if output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(answer)
	}
	for i, a := range answer.Archives {
		if _, err := fmt.Fprintf(s.out, "%s: blocks %d to %d, %d lines of history, sha256 %x\n", files[i], a.Base, a.Height, a.Lines, a.Sum); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.out, "ok: %d blocks executed, %d households, hash %.16s, genesis %s\n", answer.Height, answer.Households, answer.AppHash, answer.GenesisHash)
	return err
}

func checkArchive(c *consensus.ArchiveCheck, file string, trust *[32]byte) (a consensus.Archived, err error) {
	f, err := os.Open(file) //nolint:gosec // the person named it
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return c.Take(f, trust)
}

func archiveProblem(file string, err error) error {
	if errors.Is(err, consensus.ErrArchive) {
		return &problem{exitDiffers, fmt.Errorf("%s: %w", file, err), "get the file again, or that of another member: whoever has all blocks can write one"}
	}
	return fmt.Errorf("checking %s: %w", file, err)
}
