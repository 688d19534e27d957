package meter

import (
	"context"
	"encoding/json"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
)

// Identity is what a device says of itself. An empty string is unknown.
type Identity = def.Identity

// Sample is one consistent look at a device.
type Sample struct {
	// At is the arrival of the last byte, by the caller's clock.
	At time.Time
	// AskedAt is when a pull source began to ask, by the same clock: the device answered between AskedAt and At. Of a
	// device that speaks by itself it is the arrival of the first of several messages; zero if one message said it all.
	AskedAt time.Time
	// DeviceAt is the device's own time, where it has one that can be relied on to have a zone.
	DeviceAt *time.Time
	// Clock is the state of the clock that At is by. A source does not know it.
	Clock ClockState
	// ImportWh and ExportWh are the counters; nil is unknown.
	ImportWh, ExportWh *uint64
	// PowerW is positive when the household imports; nil is unknown.
	PowerW  *int64
	Quality Quality
	// Identity is what is known of the device at this moment.
	Identity Identity
	// Signed is the reading as the device signed it, verified against the key that came with it; nil where the
	// device does not sign. Whether that key is the meter's is for the caller to know.
	Signed *SignedProof
	// ImportTraits and ExportTraits say how finely each counter counts and where it begins anew.
	ImportTraits, ExportTraits def.Traits
	// Source is the definition and its version, such as "eastron-sdm630@1".
	Source string
	// Raw is what the device sent, for disputes: a telegram or message as it came, or the registers of a look, a line
	// for each request. At most MaxRaw bytes; nil where the source does not keep it.
	Raw []byte
	// Origins say where each point is from and how the device wrote it, for a person who compares with a data sheet.
	Origins []def.Origin
}

// MaxRaw bounds Sample.Raw, in bytes. A P1 telegram has about 1000, a look at a Modbus meter 200.
const MaxRaw = 4 << 10

// bounded is a copy of what a device sent, cut at MaxRaw.
func bounded(raw []byte) []byte { return append([]byte(nil), raw[:min(len(raw), MaxRaw)]...) }

// MarshalJSON writes what a person wants of a sample; what is unknown is null.
func (s Sample) MarshalJSON() ([]byte, error) {
	type identity struct {
		Maker    *string `json:"maker"`
		Model    *string `json:"model"`
		Serial   *string `json:"serial"`
		Firmware *string `json:"firmware"`
	}
	known := func(v string) *string {
		if v == "" {
			return nil
		}
		return &v
	}
	signedBy := "agent"
	if s.Signed != nil {
		signedBy = "device"
	}
	return json.Marshal(struct {
		Source   string     `json:"source"`
		At       time.Time  `json:"at"`
		DeviceAt *time.Time `json:"device_at"`
		ImportWh *uint64    `json:"import_wh"`
		ExportWh *uint64    `json:"export_wh"`
		PowerW   *int64     `json:"power_w"`
		Quality  Quality    `json:"quality"`
		Identity identity   `json:"identity"`
		SignedBy string     `json:"signed_by"`
	}{
		s.Source, s.At, s.DeviceAt, s.ImportWh, s.ExportWh, s.PowerW, s.Quality,
		identity{known(s.Identity.Maker), known(s.Identity.Model), known(s.Identity.Serial), known(s.Identity.Firmware)},
		signedBy,
	})
}

// Source is one meter. It may be used by one goroutine at a time, except for Close.
type Source interface {
	// Identity returns what the device says of itself. A pull source asks it; a push source tells what the messages
	// have said so far.
	Identity(ctx context.Context) (Identity, error)
	// Read returns one sample. A pull source asks the device now; a push source waits for the next fresh message
	// until ctx is done, and returns a retained one, marked so, if that is all there is by then.
	Read(ctx context.Context) (Sample, error)
	// Push says whether Read waits for the device to speak.
	Push() bool
	// Definition is the definition that the source reads by.
	Definition() def.Definition
	// Close ends the source and waits for what it started.
	Close() error
}
