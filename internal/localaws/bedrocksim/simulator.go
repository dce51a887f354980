// Package bedrocksim is a Bedrock runtime that keeps quotas: it admits,
// reserves, settles and refuses as AWS documents it, under any shape that the
// undocumented limiter may have; it takes the time that a model takes, fails on
// demand, and counts what it saw. It answers Converse and InvokeModel over the
// real wire protocol, for the real SDK client. It is no model: the text is
// noise, and tokens are bytes divided by a constant. internal/localaws serves
// it to the demo, the tests and the benchmarks; localstack/bedrocksim serves it
// alone. It imports the standard library only.
package bedrocksim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what New needs.
type Options struct {
	// Models by model ID, as clients pass it. Each has a ledger of its own in
	// every Region. An ID that is not here is answered as AWS answers a wrong
	// one.
	Models map[string]Model
	// Seed decides outputs, latencies and faults.
	Seed uint64
	// Log gets a debug line for each request; nil: none. Never a prompt.
	Log *slog.Logger
}

// Simulator serves POST /model/{id}/converse and /invoke. Time is time.Now
// and timers alone, so it works in a synctest bubble; without latency it has
// neither timers nor goroutines.
//
// A prompt steers what becomes of its request by markers in its text:
//
//	[[sim:output=300]] [[sim:input=812]]            tokens
//	[[sim:cache_read=500]] [[sim:cache_write=500]]  tokens, beside the input
//	[[sim:bytes_per_token=2.6]]                     density of this text
//	[[sim:latency=2s]]
//	[[sim:status=503]]                              400, 403, 404, 408, 424, 429, 500, 503, 529
//	[[sim:hang]]                                    any FaultKind
//
// An unknown marker is a 400 that quotes it.
type Simulator struct {
	seed  uint64
	log   *slog.Logger
	start time.Time
	mux   http.ServeMux
	last  atomic.Uint64 // request ID

	mu       sync.Mutex // guards what follows; taken before a ledger's
	models   map[string]Model
	ledgers  map[Key]*ledger
	answered map[uint64]struct{} // hashes of bodies
}

// ledger is one Key's state.
type ledger struct {
	family   *family
	burndown float64 // the family's

	mu      sync.Mutex // guards what follows
	model   Model
	limiter *Limiter
	draw    *rand.Rand // faults: another try has another fate
	stats   Stats
}

// New returns a simulator whose ledgers all begin with nothing taken.
func New(o Options) *Simulator {
	s := &Simulator{
		seed:     o.Seed,
		log:      o.Log,
		start:    time.Now(),
		models:   map[string]Model{},
		ledgers:  map[Key]*ledger{},
		answered: map[uint64]struct{}{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	maps.Copy(s.models, o.Models)
	s.mux.HandleFunc("POST /model/{id}/{operation}", s.serve)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.fail(w, problem{status: http.StatusNotFound, typ: "UnknownOperationException"})
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Set changes a model in mid-run, in the Regions named or in all of them. A
// new shape starts with nothing taken; a new quota keeps what was taken.
// Requests that have started keep their latency and their output. An unknown
// model ID becomes a known one.
func (s *Simulator) Set(modelID string, change func(*Model), regions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(regions) == 0 {
		m := s.models[modelID]
		m.Faults = slices.Clone(m.Faults)
		change(&m)
		s.models[modelID] = m
		for key := range s.ledgers {
			if key.ModelID == modelID {
				regions = append(regions, key.Region)
			}
		}
	} else if _, ok := s.models[modelID]; !ok {
		s.models[modelID] = Model{}
	}
	for _, region := range regions {
		s.ledger(Key{region, modelID}).set(change)
	}
}

func (l *ledger) set(change func(*Model)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	was := l.model
	l.model.Faults = slices.Clone(was.Faults)
	change(&l.model)
	switch {
	case !slices.Equal(was.Shape, l.model.Shape):
		taken := l.limiter.Neighbour(now)
		l.limiter = NewLimiter(l.model.quota(), l.model.Shape, now)
		l.limiter.taken = taken
		l.limiter.SetNeighbour(now, l.model.Neighbour)
	case was.quota() != l.model.quota():
		l.limiter.SetQuota(now, l.model.quota())
	}
	if was.Neighbour != l.model.Neighbour {
		l.limiter.SetNeighbour(now, l.model.Neighbour)
	}
}

// Stats returns what was seen, by Key. A Key appears with its first request.
func (s *Simulator) Stats() map[Key]Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[Key]Stats, len(s.ledgers))
	for key, l := range s.ledgers {
		l.mu.Lock()
		st := l.stats.clone()
		taken := l.limiter.Neighbour(time.Now())
		l.mu.Unlock()
		st.NeighbourRequests, st.NeighbourTokens = taken.Requests, int64(taken.Tokens)
		all[key] = st
	}
	return all
}

// find returns the ledger of a known model, or nil.
func (s *Simulator) find(key Key) *ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.models[key.ModelID]; !ok {
		return nil
	}
	return s.ledger(key)
}

// ledger returns the key's ledger, made from the model where there is none. The
// caller holds s.mu.
func (s *Simulator) ledger(key Key) *ledger {
	l := s.ledgers[key]
	if l == nil {
		m := s.models[key.ModelID]
		now := time.Now()
		name := key.ModelID
		if m.Family != "" {
			name = m.Family + "."
		}
		l = &ledger{
			model:    m,
			family:   familyOf(name),
			burndown: burndownOf(name),
			limiter:  NewLimiter(m.quota(), m.Shape, now),
			draw:     rand.New(rand.NewPCG(s.seed, uint64(len(s.ledgers)))),
			stats:    Stats{Throttled: map[Cause]int64{}, Errors: map[int]int64{}},
		}
		l.limiter.SetNeighbour(now, m.Neighbour)
		s.ledgers[key] = l
	}
	return l
}

// maxBody is Bedrock's limit on a request, in bytes.
const maxBody = 25_000_000

// serve is a request's life: check, admit, generate, settle, answer.
func (s *Simulator) serve(w http.ResponseWriter, r *http.Request) {
	key := Key{region(r), r.PathValue("id")}
	converse := false
	switch r.PathValue("operation") {
	case "converse":
		converse = true
	case "invoke":
	case "converse-stream", "invoke-with-response-stream", "count-tokens":
		s.fail(w, problem{status: http.StatusNotImplemented, typ: "UnknownOperationException", message: "The simulator has no streams and counts no tokens."})
		return
	default:
		s.fail(w, problem{status: http.StatusNotFound, typ: "UnknownOperationException"})
		return
	}
	l := s.find(key)
	if l == nil {
		s.fail(w, invalid("The provided model identifier is invalid."))
		return
	}

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var req request
	p := invalid("Input is too long for requested model.") // or cut off: then nobody hears it
	if err == nil {
		req, p = read(body, l.family, converse)
	}
	attempt := r.Header.Get("Amz-Sdk-Request")
	retry := attempt != "" && !strings.HasPrefix(attempt, "attempt=1;")

	st, p := l.begin(s, req, p, converse, retry)
	if p.status != 0 {
		s.debug(r.Context(), key, p.status, p.typ, &st.plan)
		s.fail(w, p)
		return
	}
	began := time.Now()
	err = wait(r.Context(), st)
	if st.kind == Cut && err == nil {
		err = http.ErrAbortHandler
	}
	if !s.end(l, req, st, time.Since(began), err) {
		s.debug(r.Context(), key, 0, "abandoned", &st.plan)
		if st.kind == Cut {
			panic(http.ErrAbortHandler)
		}
		s.fail(w, faults[Unavailable].problem) // heard by those whom the server's stop cut off
		return
	}
	s.debug(r.Context(), key, max(st.status, http.StatusOK), st.typ, &st.plan)
	if st.status != 0 {
		s.fail(w, st.problem)
		return
	}
	s.answer(w, l.family, answer{
		model:      key.ModelID,
		id:         fmt.Sprintf("%016x", req.hash),
		prompted:   req.prompted,
		dimensions: req.dimensions,
		plan:       &st.plan,
		rng:        st.rng,
	}, converse, st.kind == Garbage)
}

// started is a request that the limiter admitted.
type started struct {
	effect
	kind   FaultKind
	plan   plan
	charge Charge
	rng    *rand.Rand
}

// begin decides about a request that was read with problem p, and starts it
// where nothing is against it.
func (l *ledger) begin(s *Simulator, req request, p problem, converse, retry bool) (started, problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	since := now.Sub(s.start)
	l.stats.Requests++
	if retry {
		l.stats.Retries++
	}
	st := started{rng: rand.New(rand.NewPCG(s.seed, req.hash))}
	if p.status == 0 {
		st.plan, p = req.plan(&l.model, l.family, converse, st.rng)
	}
	if p.status == 0 {
		if st.kind = req.steer.fault; st.kind == "" {
			st.kind = l.fault(since)
		}
		if st.effect = faults[st.kind]; !st.admitted {
			p = st.problem
		}
	}
	if p.status != 0 {
		l.stats.Errors[p.status]++
		return st, p
	}
	if st.kind == Slow {
		st.plan.lead *= slowFactor
		st.plan.latency = max(slowFactor*st.plan.latency, slowLeast)
	}

	var cause Cause
	if st.charge, cause = l.limiter.Admit(now, st.plan.reserve); cause != Admitted {
		l.stats.Throttled[cause]++
		l.stats.second(since).Throttled++
		return st, refusals[cause]
	}
	l.stats.Accepted++
	l.stats.second(since).Accepted++
	l.stats.Reserved += st.plan.reserve
	l.stats.InFlight++
	l.stats.MaxInFlight = max(l.stats.MaxInFlight, l.stats.InFlight)
	return st, problem{}
}

// fault draws what goes wrong with the next request, "" for nothing.
func (l *ledger) fault(since time.Duration) FaultKind {
	for _, f := range l.model.Faults {
		if f.active(since) && l.draw.Float64() < f.Rate {
			return f.Kind
		}
	}
	return ""
}

// wait lets the request take its time; the error says that its client went
// away first.
func wait(ctx context.Context, st started) error {
	var done <-chan time.Time
	switch {
	case st.kind == Hang:
	case st.plan.latency <= 0:
		return ctx.Err()
	case st.status != 0: // one that fails does so before its first token
		timer := time.NewTimer(st.plan.lead)
		defer timer.Stop()
		done = timer.C
	default:
		timer := time.NewTimer(st.plan.latency)
		defer timer.Stop()
		done = timer.C
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end settles the request, and reports whether there is anybody to answer.
//
// UNCONFIRMED on AWS, which documents the settlement of a success only: a
// request whose client went away is charged with what was generated by then; one
// that ended in an error gives its tokens back, and counts as a request.
func (s *Simulator) end(l *ledger, req request, st started, took time.Duration, gone error) bool {
	repeat := false
	if gone == nil && st.status == 0 && st.kind != Garbage {
		s.mu.Lock()
		_, repeat = s.answered[req.hash]
		s.answered[req.hash] = struct{}{}
		s.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	second := l.stats.second(now.Sub(s.start))
	l.stats.InFlight--
	output := st.plan.output
	switch {
	case gone != nil:
		l.stats.Abandoned++
		if output = 0; st.kind != Hang {
			output = st.plan.generated(took)
		}
	case st.status != 0:
		l.stats.Errors[st.status]++
		l.limiter.Settle(now, st.charge, 0)
		return true
	default:
		l.stats.Answered++
		second.Answered++
		switch {
		case st.kind == Garbage:
		case repeat:
			l.stats.Repeats++
		default:
			l.stats.Jobs++
		}
	}
	burndown := l.model.Burndown
	if burndown <= 0 {
		burndown = l.burndown
	}
	settled := st.plan.settlement(output, burndown)
	l.limiter.Settle(now, st.charge, settled)
	l.stats.Settled += settled
	second.Settled += settled
	return gone == nil
}

func (s *Simulator) answer(w http.ResponseWriter, fam *family, a answer, converse, garbage bool) {
	h := s.header(w)
	if !converse && !fam.unmetered {
		h.Set("X-Amzn-Bedrock-Input-Token-Count", strconv.FormatInt(a.plan.input, 10))
		h.Set("X-Amzn-Bedrock-Output-Token-Count", strconv.FormatInt(a.plan.output, 10))
		if a.plan.cacheRead+a.plan.cacheWrite > 0 {
			h.Set("X-Amzn-Bedrock-Cache-Read-Input-Token-Count", strconv.FormatInt(a.plan.cacheRead, 10))
			h.Set("X-Amzn-Bedrock-Cache-Write-Input-Token-Count", strconv.FormatInt(a.plan.cacheWrite, 10))
		}
	}
	if !converse {
		h.Set("X-Amzn-Bedrock-Invocation-Latency", strconv.FormatInt(a.plan.latency.Milliseconds(), 10))
	}
	if garbage {
		h.Set("Content-Type", "text/html")
		io.WriteString(w, "<html><body>upstream connect error</body></html>")
		return
	}
	form := fam.answer
	if converse {
		form = converseAnswer
	}
	s.write(w, http.StatusOK, form(a))
}

func (s *Simulator) fail(w http.ResponseWriter, p problem) {
	h := s.header(w)
	if p.typ != "" {
		h.Set("X-Amzn-ErrorType", p.typ+":http://internal.amazon.com/coral/com.amazon.bedrock/")
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	body := object{"message": p.message}
	if p.original != 0 {
		body["originalStatusCode"] = p.original
	}
	s.write(w, p.status, body)
}

func (s *Simulator) header(w http.ResponseWriter) http.Header {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amzn-Requestid", fmt.Sprintf("00000000-0000-4000-8000-%012x", s.last.Add(1)))
	return h
}

func (s *Simulator) write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // bodies are ours
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data) // a client that left hears nothing
}

func (s *Simulator) debug(ctx context.Context, key Key, status int, outcome string, p *plan) {
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	s.log.DebugContext(ctx, "request",
		"region", key.Region, "model", key.ModelID, "status", status, "outcome", outcome,
		"reserved_tokens", p.reserve, "output_tokens", p.output)
}

// region reads the Region from the scope of a SigV4 signature:
// Credential=KEY/DATE/REGION/bedrock/aws4_request.
func region(r *http.Request) string {
	if _, scope, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		if parts := strings.SplitN(scope, "/", 4); len(parts) == 4 {
			return parts[2]
		}
	}
	return "us-east-1"
}
