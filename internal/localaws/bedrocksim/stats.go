package bedrocksim

import (
	"maps"
	"slices"
	"time"
)

// Key is one ledger: a model ID as the client passes it, in the Region that
// the request was signed for.
type Key struct {
	Region  string
	ModelID string
}

// MarshalText writes "region/model ID".
func (k Key) MarshalText() ([]byte, error) { return []byte(k.Region + "/" + k.ModelID), nil }

// Stats is what the simulator saw of one Key since New.
type Stats struct {
	Requests  int64           `json:"requests"`  // all that came
	Accepted  int64           `json:"accepted"`  // admitted by the limiter
	Answered  int64           `json:"answered"`  // ended in a 200
	Abandoned int64           `json:"abandoned"` // admitted, and nobody heard the answer
	Throttled map[Cause]int64 `json:"throttled"` // 429s of the limiter
	Errors    map[int]int64   `json:"errors"`    // other answers than 200, by status
	Retries   int64           `json:"retries"`   // repeated by the SDK itself (Amz-Sdk-Request: attempt above 1)

	Reserved int64 `json:"reserved_tokens"` // of accepted requests
	Settled  int64 `json:"settled_tokens"`  // of ended ones

	InFlight    int `json:"in_flight"`
	MaxInFlight int `json:"max_in_flight"`

	// Jobs are distinct bodies answered first by this Key, and Repeats the
	// answers to a body that some Key had answered before: paid twice. Garbage
	// is no answer.
	Jobs    int64 `json:"jobs"`
	Repeats int64 `json:"repeats"`

	NeighbourRequests int64 `json:"neighbour_requests"`
	NeighbourTokens   int64 `json:"neighbour_tokens"`

	// Series has an entry for each second in which something happened, the
	// last two hours' worth at least.
	Series []Second `json:"series"`
}

// Second is what happened in one second since New.
type Second struct {
	At        int64 `json:"at"` // whole seconds since New
	Accepted  int64 `json:"accepted"`
	Throttled int64 `json:"throttled"`
	Answered  int64 `json:"answered"`
	Settled   int64 `json:"settled_tokens"`
}

// seriesKept bounds the series: two hours of seconds. Fewer would lose the
// start of a benchmark's virtual hour; each costs 40 bytes per Key.
const seriesKept = 7200

// second returns the series' entry for the time.
func (s *Stats) second(since time.Duration) *Second {
	at := int64(since / time.Second)
	if n := len(s.Series); n == 0 || s.Series[n-1].At != at {
		if n >= 2*seriesKept {
			s.Series = slices.Delete(s.Series, 0, n-seriesKept)
		}
		s.Series = append(s.Series, Second{At: at})
	}
	return &s.Series[len(s.Series)-1]
}

func (s *Stats) clone() Stats {
	c := *s
	c.Throttled = maps.Clone(s.Throttled)
	c.Errors = maps.Clone(s.Errors)
	c.Series = slices.Clone(s.Series)
	return c
}
