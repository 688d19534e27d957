package def

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

//go:embed data/*.yaml
var builtin embed.FS

// maxFile bounds a definition file.
const maxFile = 256 << 10

// ErrInvalid is wrapped by every error about the content of a definition.
var ErrInvalid = errors.New("invalid definition")

// ErrNotFound is returned by Find.
var ErrNotFound = errors.New("there is no such definition")

// Load returns the definitions that are built in and those of a directory, which override them by id; sorted by id.
// An empty directory name means built-in ones only.
func Load(dir string) ([]Definition, error) {
	byID := map[string]Definition{}
	if err := loadFS(builtin, "data", byID); err != nil {
		return nil, err
	}
	if dir != "" {
		own := map[string]Definition{}
		if err := loadFS(os.DirFS(dir), ".", own); err != nil {
			return nil, fmt.Errorf("loading definitions of %s: %w", dir, err)
		}
		maps.Copy(byID, own)
	}
	all := make([]Definition, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		all = append(all, byID[id])
	}
	return all, nil
}

// Find returns one definition by id: of the directory, if it has it, else the built-in one. Unlike Load it does not
// parse what it was not asked for. If there is none, it returns the ids that there are.
func Find(dir, id string) (d Definition, ids []string, err error) {
	own := map[string]Definition{}
	if dir != "" {
		if err := loadFS(os.DirFS(dir), ".", own); err != nil {
			return Definition{}, nil, fmt.Errorf("loading definitions of %s: %w", dir, err)
		}
	}
	if d, ok := own[id]; ok {
		return d, nil, nil
	}
	ids = slices.Collect(maps.Keys(own))
	entries, err := fs.ReadDir(builtin, "data")
	if err != nil {
		return Definition{}, nil, fmt.Errorf("reading definitions: %w", err)
	}
	for _, e := range entries {
		// A built-in file is named by its id; a test holds that.
		name := strings.TrimSuffix(e.Name(), ".yaml")
		if name == id {
			d, err := loadFile(builtin, path.Join("data", e.Name()))
			return d, nil, err
		}
		ids = append(ids, name)
	}
	slices.Sort(ids)
	return Definition{}, slices.Compact(ids), fmt.Errorf("definition %q: %w", id, ErrNotFound)
}

func loadFS(fsys fs.FS, dir string, into map[string]Definition) error {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return fmt.Errorf("reading definitions: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || path.Ext(e.Name()) != ".yaml" {
			continue
		}
		d, err := loadFile(fsys, path.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if other, twice := into[d.ID]; twice {
			return Problems{{
				File: e.Name(), Line: d.Line, Column: 1, Key: "id",
				Reason: fmt.Sprintf("%q is also in another file (version %d)", d.ID, other.Version),
			}}
		}
		into[d.ID] = d
	}
	return nil
}

func loadFile(fsys fs.FS, name string) (Definition, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return Definition{}, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Definition{}, err
	}
	return ParseFile(path.Base(name), data)
}

// LoadFile reads one definition of a file. What is wrong with its content is a [Problems] that names the file.
func LoadFile(name string) (Definition, error) {
	f, err := os.Open(name) //nolint:gosec // the caller's file
	if err != nil {
		return Definition{}, fmt.Errorf("reading a definition: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Definition{}, fmt.Errorf("reading a definition: %w", err)
	}
	return ParseFile(name, data)
}
