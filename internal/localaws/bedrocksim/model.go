package bedrocksim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Model is how one model behaves. The zero Model has no quota, answers at once
// and takes what it does not say from the family that its ID belongs to.
type Model struct {
	// Family is the prefix of a model ID ("anthropic", "amazon.nova") for IDs
	// that do not tell it: application profiles, provisioned throughput. It is
	// fixed by the first request.
	Family string `json:"family"`

	RPM   float64 `json:"rpm"` // requests per minute, 0: no limit
	TPM   float64 `json:"tpm"` // tokens per minute, 0: no limit
	TPD   int64   `json:"tpd"` // tokens per day, 0: no limit
	Shape Shape   `json:"shape"`
	// Burndown is the quota tokens per output token; 0: the family's.
	Burndown  float64   `json:"burndown"`
	Neighbour Neighbour `json:"neighbour"`

	Latency Latency `json:"latency"`
	// Output is how much the model generates, in tokens; OutputPart the same as
	// a part of the request's max_tokens, and wins where set. Without either it
	// is 20 to 400 tokens. Never more than max_tokens.
	Output     Range `json:"output"`
	OutputPart Range `json:"output_part"`
	// MaxTokens is the most that the model generates: what a request without a
	// bound reserves, and a larger bound is refused with. 0: the family's.
	MaxTokens int64 `json:"max_tokens"`
	// BytesPerToken is how dense text is; 0: 4.
	BytesPerToken float64 `json:"bytes_per_token"`

	Faults []Fault `json:"faults"`
}

func (m *Model) quota() Quota { return Quota{RPM: m.RPM, TPM: m.TPM, TPD: m.TPD} }

// Range is a uniform distribution from Min to Max, both included.
type Range struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

func (r Range) draw(rng *rand.Rand) float64 { return r.Min + rng.Float64()*(r.Max-r.Min) }

// Latency is the time from admission to answer: Base + PerToken for each
// output token, times 1 ± Jitter (uniform).
type Latency struct {
	Base     time.Duration
	PerToken time.Duration
	Jitter   float64
}

// ReadModels reads a JSON object of models by model ID, as Options wants them.
// Durations are strings ("1.5s"), a shape is what Shape.UnmarshalText reads.
func ReadModels(r io.Reader) (map[string]Model, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var models map[string]Model
	if err := dec.Decode(&models); err != nil {
		return nil, fmt.Errorf("read models: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("read models: something follows the object")
	}
	for id, m := range models {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("read models: %s: %w", id, err)
		}
	}
	return models, nil
}

// check finds what no model can be, in a file that a person wrote.
func (m *Model) check() error {
	for name, v := range map[string]float64{
		"rpm": m.RPM, "tpm": m.TPM, "tpd": float64(m.TPD), "burndown": m.Burndown,
		"max_tokens": float64(m.MaxTokens), "bytes_per_token": m.BytesPerToken,
		"latency.base": float64(m.Latency.Base), "latency.per_token": float64(m.Latency.PerToken),
		"output.min": m.Output.Min, "output_part.min": m.OutputPart.Min,
		"neighbour.on": float64(m.Neighbour.On), "neighbour.off": float64(m.Neighbour.Off),
	} {
		if v < 0 {
			return fmt.Errorf("%s: must not be negative", name)
		}
	}
	parts := map[string]float64{"latency.jitter": m.Latency.Jitter, "neighbour.fraction": m.Neighbour.Fraction}
	for i, f := range m.Faults {
		parts[fmt.Sprintf("faults[%d].rate", i)] = f.Rate
	}
	for name, v := range parts {
		if v < 0 || v > 1 {
			return fmt.Errorf("%s: must be from 0 to 1", name)
		}
	}
	if m.Output.Max < m.Output.Min || m.OutputPart.Max < m.OutputPart.Min {
		return errors.New("output: max must not be below min")
	}
	return nil
}

// duration is a time.Duration that JSON writes as text.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// strict decodes into v and refuses fields that v has not: an UnmarshalJSON
// does not inherit its decoder's DisallowUnknownFields.
func strict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// UnmarshalJSON reads durations as text.
func (l *Latency) UnmarshalJSON(data []byte) error {
	var v struct {
		Base     duration `json:"base"`
		PerToken duration `json:"per_token"`
		Jitter   float64  `json:"jitter"`
	}
	if err := strict(data, &v); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	*l = Latency{time.Duration(v.Base), time.Duration(v.PerToken), v.Jitter}
	return nil
}

// UnmarshalJSON reads durations as text.
func (n *Neighbour) UnmarshalJSON(data []byte) error {
	var v struct {
		Fraction float64  `json:"fraction"`
		On       duration `json:"on"`
		Off      duration `json:"off"`
	}
	if err := strict(data, &v); err != nil {
		return fmt.Errorf("neighbour: %w", err)
	}
	*n = Neighbour{v.Fraction, time.Duration(v.On), time.Duration(v.Off)}
	return nil
}

// UnmarshalJSON reads durations as text.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var v struct {
		Kind  FaultKind `json:"kind"`
		Rate  float64   `json:"rate"`
		From  duration  `json:"from"`
		Until duration  `json:"until"`
	}
	if err := strict(data, &v); err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	if _, ok := faults[v.Kind]; !ok {
		return fmt.Errorf("fault: unknown kind %q", v.Kind)
	}
	*f = Fault{v.Kind, v.Rate, time.Duration(v.From), time.Duration(v.Until)}
	return nil
}
