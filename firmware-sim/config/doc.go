// Package config reads the configuration of firmware-sim: one YAML file,
// strictly. A key that nobody knows, a value out of its range, two devices on
// one unit id: each becomes a [Problem] with file, line, key and what is
// allowed, and all of them are reported at once.
//
// Paths in the file are relative to the file. Secrets are paths to files, never
// values. Anchors and aliases are refused: nobody needs them here, and they make
// a small file large. A file is at most 1 MiB.
package config
