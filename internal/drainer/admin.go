package drainer

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sluicehq/sluice/internal/metrics"
	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/worker"
)

// Handler is the admin listener. It serves from the start on, so that a task is
// healthy while its preflight still waits.
//
//	/healthz      200 while the process lives
//	/readyz       200, or 503 with one reason a line
//	/status.json  what the drainer does and has done, a status
//	/metrics      for Prometheus
//
// None of them shows a prompt, an output or an identity of a job.
func (d *Drainer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reason := d.Snapshot().NotReadyReason; reason != "" {
			http.Error(w, reason, http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ready\n")
	})
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.Encode(statusOf(d.cfg.Name, d.Version, d.Snapshot(), d.depths.all())) // fails only if the client has gone
	})
	mux.Handle("GET /metrics", metrics.Handler("sluice", d.samples))
	return mux
}

// status is /status.json. Its names are a promise to whoever reads it: fields
// may be added, not renamed. Counts are totals since the start; times are in
// seconds.
type status struct {
	Name    string    `json:"name"`
	Version string    `json:"version,omitempty"`
	At      time.Time `json:"at"`
	Started time.Time `json:"started,omitzero"` // absent until the preflight has passed
	Ready   bool      `json:"ready"`
	// NotReady holds what is wrong with a dependency or the routes.
	NotReady []string `json:"not_ready"`
	// Suspended says that nothing new is invoked because its result could not be
	// kept.
	Suspended bool `json:"suspended"`

	Jobs   jobsStatus    `json:"jobs"`
	Queues []queueStatus `json:"queues"` // in order of priority
	Models []modelStatus `json:"models"` // by name
}

type jobsStatus struct {
	InFlight      int                  `json:"in_flight"` // invocations
	Held          int                  `json:"held"`      // received, not yet started
	Released      int                  `json:"released"`  // given back here, not yet due
	OldestSeconds float64              `json:"oldest_seconds"`
	BytesHeld     int64                `json:"bytes_held"`
	Buried        map[job.Reason]int64 `json:"buried"`

	Releases         int64   `json:"releases"`
	Renewals         int64   `json:"renewals"`
	LeasesLost       int64   `json:"leases_lost"`
	ResultErrors     int64   `json:"result_errors"`
	CopiesWaiting    int64   `json:"copies_waiting"`
	CopiesLost       int64   `json:"copies_lost"`
	PaidTwice        int64   `json:"paid_twice"`
	Cancelled        int64   `json:"cancelled"` // invocations, by the stop
	Unbounded        int64   `json:"unbounded"` // ended, without max_tokens
	SlotBoundSeconds float64 `json:"slot_bound_seconds"`
}

type queueStatus struct {
	Name     string             `json:"name"`
	Received int64              `json:"received"`
	Depth    *depthStatus       `json:"depth,omitempty"` // absent while unknown
	Mix      map[string]float64 `json:"mix"`             // the part of each model in the last messages
}

// depthStatus is what SQS last said, approximately.
type depthStatus struct {
	Visible  int `json:"visible"`
	Delayed  int `json:"delayed"`
	InFlight int `json:"in_flight"`
}

type modelStatus struct {
	Model    string `json:"model"`
	Waiting  int    `json:"waiting"` // in line for a grant
	Held     int    `json:"held"`    // waiting ones included
	InFlight int    `json:"in_flight"`
	// Large jobs need more than what the quota of a minute admits beside others: given
	// back until a minute of their own, and when the first of them comes back.
	Large   int       `json:"large"`
	NextTry time.Time `json:"large_next,omitzero"`

	Invocations       int64                `json:"invocations"` // answered
	Throttles         int64                `json:"throttles"`   // 429s
	CapacityErrors    int64                `json:"capacity_errors"`
	QuotaTokens       int64                `json:"quota_tokens"`
	Succeeded         int64                `json:"succeeded"`
	Failed            map[job.Reason]int64 `json:"failed"`
	Expired           int64                `json:"expired"`
	Fallbacks         int64                `json:"fallbacks"` // answered by another model
	QuotaBoundSeconds float64              `json:"quota_bound_seconds"`
	QueueWait         percentiles          `json:"queue_wait"` // from submission to the last start
	Latency           percentiles          `json:"latency"`    // from start to answer

	Routes []routeStatus `json:"routes"`
}

type percentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

type routeStatus struct {
	job.Route
	Quota string  `json:"quota"`         // routes of one Region and quota share all of what follows
	RPM   float64 `json:"rpm,omitempty"` // this drainer's part of it; absent: not limited
	TPM   float64 `json:"tpm,omitempty"`
	Gate  string  `json:"gate"` // open, broken, parked, stopped
	// Of the failure that closed the gate; absent while it is open.
	GateCode    string    `json:"gate_code,omitempty"`
	GateRequest string    `json:"gate_request_id,omitempty"`
	GateSince   time.Time `json:"gate_since,omitzero"`
	InFlight    int       `json:"in_flight"`

	Invocations    int64            `json:"invocations"`
	CapacityErrors int64            `json:"capacity_errors"`
	Latency        percentiles      `json:"latency"`
	ReservedTokens int64            `json:"reserved_tokens"`
	SettledTokens  int64            `json:"settled_tokens"`
	Throttles      map[string]int64 `json:"throttles"` // by cause: requests, tokens, day, or ""

	Share         float64 `json:"share"`          // the part of the quota in use
	Shape         string  `json:"shape"`          // what the limiter is believed to be
	BucketSeconds float64 `json:"bucket_seconds"` // the same in figures, in seconds of the quota
	Minute        bool    `json:"minute"`         // whether a minute stands beside that
	Bound         bool    `json:"bound"`          // backlog waits, and the quota is why
	MarginSeconds float64 `json:"margin_seconds"`
	// Level is what could start at once; below 0, what must be earned first.
	Level      amounts `json:"level"`
	LastMinute amounts `json:"last_minute"`
}

// amounts are of both dimensions of a quota.
type amounts struct {
	Requests float64 `json:"requests"`
	Tokens   float64 `json:"tokens"`
}

func statusOf(name, version string, s worker.Snapshot, depths []queue.Attributes) status {
	st := status{
		Name: name, Version: version, At: s.At, Started: s.Started,
		Ready: s.NotReadyReason == "", NotReady: []string{}, Suspended: s.Suspended,
		Jobs: jobsStatus{
			InFlight: s.InFlight, Held: s.Held, Released: s.Released,
			OldestSeconds: s.OldestJob.Seconds(), BytesHeld: s.BytesHeld, Buried: known(s.Buried),
			Releases: s.Releases, Renewals: s.Renewals, LeasesLost: s.LeasesLost,
			ResultErrors: s.ResultErrors, CopiesWaiting: s.CopiesWaiting, CopiesLost: s.CopiesLost,
			PaidTwice: s.PaidTwice, Cancelled: s.Cancelled, Unbounded: s.Unbounded, SlotBoundSeconds: s.SlotBound.Seconds(),
		},
		Queues: []queueStatus{}, Models: []modelStatus{},
	}
	if !st.Ready {
		st.NotReady = strings.Split(s.NotReadyReason, "\n")
	}
	for i, src := range s.Sources {
		q := queueStatus{Name: src.Name, Received: src.Received, Mix: known(src.Mix)}
		if i < len(depths) {
			q.Depth = &depthStatus{depths[i].Visible, depths[i].Delayed, depths[i].InFlight}
		}
		st.Queues = append(st.Queues, q)
	}
	for _, m := range s.Models {
		ms := modelStatus{
			Model: m.Alias, Waiting: m.Waiting, Held: m.Held, InFlight: m.InFlight, Large: m.Large, NextTry: m.NextTry,
			Invocations: m.Invocations, Throttles: m.Throttles, CapacityErrors: m.Capacity,
			QuotaTokens: m.QuotaTokens, Succeeded: m.Succeeded, Failed: known(m.Failed),
			Expired: m.Expired, Fallbacks: m.Fallbacks, QuotaBoundSeconds: m.QuotaBound.Seconds(),
			QueueWait: percentilesOf(m.QueueWait), Latency: percentilesOf(m.Latency), Routes: []routeStatus{},
		}
		for _, r := range m.Routes {
			rs := routeStatus{
				Route: r.Route, Quota: r.Quota, RPM: r.Limits.RPM, TPM: r.Limits.TPM, Gate: r.Gate, InFlight: r.InFlight,
				GateCode: r.GateCode, GateRequest: r.GateRequest, GateSince: r.GateSince,
				Invocations: r.Invocations, CapacityErrors: r.Capacity, Latency: percentilesOf(r.Latency), ReservedTokens: r.Reserved, SettledTokens: r.Settled, Throttles: known(r.Throttles),
				Share: r.Ledger.Share, Shape: r.Ledger.Shape, Bound: r.Ledger.Bound, MarginSeconds: r.Ledger.Margin.Seconds(),
				BucketSeconds: r.Ledger.Bucket.Seconds(), Minute: r.Ledger.Minute,
				Level: amounts{r.Ledger.RequestLevel, r.Ledger.TokenLevel}, LastMinute: amounts{r.Ledger.Requests, r.Ledger.Tokens},
			}
			ms.Routes = append(ms.Routes, rs)
		}
		st.Models = append(st.Models, ms)
	}
	return st
}

// known makes an empty map of none: {} says nothing yet, null that nobody knows.
func known[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		m = map[K]V{}
	}
	return m
}

func percentilesOf(h worker.Histogram) percentiles {
	return percentiles{h.Quantile(0.5), h.Quantile(0.9), h.Quantile(0.99)}
}
