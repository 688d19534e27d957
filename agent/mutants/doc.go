// Package mutants asks whether the tests are alive. Each file testdata/<name>.txtar is a bug that somebody might make,
// one that would cost a neighbour money or a home its word: a sync that is left out, a row that is dropped, a signature
// that is not looked at. `make mutants` plants one after the other, and the tests that the file names must fail.
//
// A mutant is a txtar archive. Its comment has one line a field:
//
//	bug:     what is wrong with it, in a sentence
//	file:    the source file, from the root of the module
//	package: that of the tests that have to catch it
//	run:     which of them, as in `go test -run`
//
// and its two files are the text as it is (old) and as the bug has it (new), of whole lines.
//
// Invariants:
//   - No bug stands in a source file, nor behind a build tag in one: it is laid over the file while the tests are built
//     (`go test -overlay`). What is shipped cannot hold it by mistake.
//   - The old text is in its file exactly once. Otherwise the mutant is stale, and plain `go test` says so.
//   - The tests it names pass without it. A bug that does not compile is not caught, nor is one that only makes the
//     tests run for too long: a named test has to fail.
//
// The package has no code but its tests; those that build and run others are behind the tag mutants.
package mutants
