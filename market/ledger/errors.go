package ledger

import (
	"fmt"
	"maps"
	"slices"
)

// Code is the stable number of a refusal: it is part of the protocol, is shown to
// people by name, and never changes its meaning.
type Code uint32

// The codes. 0 is success; 1 to 9 are about bytes, 10 to 29 about orders (R2), 30
// to 39 about members and meters, 40 to 49 about decisions and envelopes, 50 to 69 about
// reports, 70 to 79 about ticks.
const (
	CodeOK                Code = 0
	CodeMalformed         Code = 1
	CodeOversized         Code = 2
	CodeUnknownKind       Code = 3
	CodeBadSignature      Code = 4
	CodeGateClosed        Code = 10
	CodeTooFarAhead       Code = 11
	CodeUnknownHousehold  Code = 12
	CodeSequenceUsed      Code = 13
	CodeBadQuantity       Code = 14
	CodePriceOutOfBounds  Code = 15
	CodeCrossed           Code = 16
	CodeTooManySteps      Code = 17
	CodeCreditLimit       Code = 18
	CodeBadSteps          Code = 19
	CodeBadPreference     Code = 20
	CodeAlreadyRegistered Code = 30
	CodeNotApproved       Code = 31
	CodeBadKey            Code = 32
	CodeUnknownNode       Code = 33
	CodeBadShare          Code = 34
	CodeNoDevice          Code = 35
	CodeLeft              Code = 36
	CodeNotValidator      Code = 37
	CodeLastValidator     Code = 38
	CodeTooManyValidators Code = 39
	CodeBadNetwork        Code = 40
	CodeBadRules          Code = 41
	CodeBadTariff         Code = 42
	CodeInThePast         Code = 43
	CodeTooManyPending    Code = 44
	CodeNotOperator       Code = 45
	CodeBelowFloor        Code = 46
	CodeBadLimit          Code = 47
	CodeUnknownMeter      Code = 50
	CodeNotCleared        Code = 51
	CodeAlreadyReported   Code = 52
	CodeBadReading        Code = 53
	CodeWindowClosed      Code = 54
	CodeNotSettled        Code = 55
	CodeBadProof          Code = 56
	CodeTickNotNext       Code = 70
	CodeTickMisplaced     Code = 71
)

var codeNames = map[Code]string{
	CodeOK:                "ok",
	CodeMalformed:         "malformed",
	CodeOversized:         "oversized",
	CodeUnknownKind:       "unknown-kind",
	CodeBadSignature:      "bad-signature",
	CodeGateClosed:        "gate-closed",
	CodeTooFarAhead:       "too-far-ahead",
	CodeUnknownHousehold:  "unknown-household",
	CodeSequenceUsed:      "sequence-used",
	CodeBadQuantity:       "bad-quantity",
	CodePriceOutOfBounds:  "price-out-of-bounds",
	CodeCrossed:           "crossed-with-own-order",
	CodeTooManySteps:      "too-many-steps",
	CodeCreditLimit:       "credit-limit",
	CodeBadSteps:          "bad-steps",
	CodeBadPreference:     "bad-preference",
	CodeAlreadyRegistered: "already-registered",
	CodeNotApproved:       "not-approved",
	CodeBadKey:            "bad-key",
	CodeUnknownNode:       "unknown-node",
	CodeBadShare:          "bad-share",
	CodeNoDevice:          "no-device",
	CodeLeft:              "left",
	CodeNotValidator:      "not-validator",
	CodeLastValidator:     "last-validator",
	CodeTooManyValidators: "too-many-validators",
	CodeBadNetwork:        "bad-network",
	CodeBadRules:          "bad-rules",
	CodeBadTariff:         "bad-tariff",
	CodeInThePast:         "in-the-past",
	CodeTooManyPending:    "too-many-pending",
	CodeNotOperator:       "not-operator",
	CodeBelowFloor:        "below-floor",
	CodeBadLimit:          "bad-limit",
	CodeUnknownMeter:      "unknown-meter",
	CodeNotCleared:        "not-cleared",
	CodeAlreadyReported:   "already-reported",
	CodeBadReading:        "bad-reading",
	CodeWindowClosed:      "window-closed",
	CodeNotSettled:        "not-settled",
	CodeBadProof:          "bad-proof",
	CodeTickNotNext:       "tick-not-next",
	CodeTickMisplaced:     "tick-misplaced",
}

// Codes returns all codes, CodeOK included, in order of their numbers.
func Codes() []Code { return slices.Sorted(maps.Keys(codeNames)) }

// String returns the code's stable name, for example "gate-closed".
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("code-%d", uint32(c))
}

// Refusal says why a transaction was not accepted: a stable code, the field that
// is wrong, and in words what was got and what would be right.
type Refusal struct {
	Code  Code
	Field string
	Text  string
}

// Error reads "gate-closed: interval: ...".
func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Code.String() + ": " + r.Text
	}
	return r.Code.String() + ": " + r.Field + ": " + r.Text
}

// Is makes errors.Is(err, &Refusal{Code: c}) compare codes alone.
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && other.Code == r.Code
}

func refuse(code Code, field, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Field: field, Text: fmt.Sprintf(format, args...)}
}
