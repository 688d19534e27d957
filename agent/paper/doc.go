// Package paper writes bytes so that people can hold them in their hands: as letters to
// copy, as words to read out, as a picture for a camera, and, for what must not be lost, as
// shares of which some are enough. It reads them back, and says where a mistake is.
//
// # Letters
//
// A [Letters] text is a prefix that says what it is, a colon, and letters of Crockford's
// base 32 (https://www.crockford.com/base32.html): no I, L, O and U, read as 1, 1 and 0
// where somebody wrote them so; capitals and small letters are the same; white space and
// hyphens do not count. Two letters are one symbol of GF(2^10). The bytes are followed by
// four of a checksum over prefix and bytes, and all by two symbols of a code of distance
// three.
//
// # Words
//
// Words are those of the English list of BIP-39, 11 bits each; their first four letters
// are enough to tell them apart. Of [EncodeWords] the last two words are the check, in
// GF(2^11). The recovery words of a key are plain BIP-39, so that other programs read them.
//
// # Invariants
//
// Tests quote these by number.
//
//   - W1 What is decoded is what was encoded: each byte string has one spelling, but for
//     case, look-alikes, spaces and hyphens.
//   - W2 One wrong letter, or one wrong word of EncodeWords, is always found, and named
//     with its place and what it has to be. Two are always noticed.
//   - W3 Nothing is corrected by itself: a person looks again.
//   - W4 Of n shares any m give the secret; m-1 say nothing about it, not even that they
//     belong together but by their labels.
//
// # Errors
//
// A [Mistake] names the place, what was got, what would be right if that can be known, and
// is for the person who typed. All sizes are bounded before anything is decoded. There are
// no goroutines here, and no state.
package paper
