package ledger

// Encoded encodes a decoded transaction anew, body first.
func Encoded(tx *Tx) []byte {
	e := tx.env
	e.Body = encode(tx.body)
	return encode(e)
}
