package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/internal/drainer"
	"github.com/sluicehq/sluice/internal/localaws"
	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// world is an embedded AWS in a bubble of virtual time, the streams that keep
// its queues full, and the drainers that empty them.
type world struct {
	*scenario
	aws    *localaws.Server
	near   *sqs.Client // of the bench: without a network
	far    aws.Config  // of the drainers: 5 to 50 ms each way
	env    []string
	queues []string
	dead   string
	store  *store
	epoch  time.Time // the run's begin
	real   bool      // by the real clock

	processes []*process
	learned   time.Duration // the bucket that the first ledger believed in when note was called

	mu      sync.Mutex // guards what follows
	sent    []*sending // by stream
	tallies map[bedrocksim.Key]*tally
	flying  map[*http.Request]admission
	frozen  bool
	failure error // the first
}

// sending is one stream's progress.
type sending struct {
	*source
	jobs     []truth
	admitted int // invocations that no limiter refused
}

// admission is a request that came and was not refused yet.
type admission struct {
	key     bedrocksim.Key
	at      time.Duration
	settled float64
	stream  int
}

// process is one drainer at work.
type process struct {
	*drainer.Drainer
	end func() error // as SIGTERM does
}

// slots is how many invocations a drainer may have under way: more than any
// scenario's quota lets it start.
const slots = 5_000

// epochOf is when the run begins: anywhere in a calendar minute.
func epochOf(now time.Time, seed uint64) time.Time {
	return now.Truncate(time.Minute).Add(time.Minute + offsetOf(seed))
}

// offsetOf is how long before the run its calendar minute began.
func offsetOf(seed uint64) time.Duration {
	return time.Duration(rand.New(rand.NewPCG(seed, 3)).Int64N(int64(time.Minute)))
}

// newWorld makes the world of a scenario: in a bubble, or by the real clock and
// reached over loopback.
func newWorld(s *scenario, f form, seed uint64, realtime bool) (*world, error) {
	models := map[string]bedrocksim.Model{}
	for _, tr := range s.tracks {
		models[tr.modelID] = bedrocksim.Model{}
	}
	w := &world{
		scenario: s,
		aws:      localaws.New(localaws.Options{Bedrock: bedrocksim.Options{Models: models, Seed: seed}}),
		store:    newStore(),
		epoch:    epochOf(time.Now(), seed),
		real:     realtime,
		tallies:  map[bedrocksim.Key]*tally{},
		flying:   map[*http.Request]admission{},
	}
	for _, tr := range s.tracks {
		w.tallies[tr.key()] = newTally(s.length)
	}
	for i, st := range s.streams {
		w.sent = append(w.sent, &sending{source: newSource(st.work, seed, uint64(i))})
	}
	w.aws.Intercept(w.watch)
	if w.real {
		w.epoch = time.Now()
		if _, err := w.aws.Listen("127.0.0.1:0"); err != nil {
			return w, err
		}
	}
	w.near = sqs.NewFromConfig(w.aws.Config(w.aws.Client(nil)))
	network := lag{random: rand.New(rand.NewPCG(seed, 2))}
	w.far = w.aws.Config(w.aws.Client(network.next))
	w.dead = w.aws.CreateQueue("dead", nil)
	for i := range max(s.queues, 1) {
		w.queues = append(w.queues, w.aws.CreateQueue("jobs-"+strconv.Itoa(i), map[string]string{"MessageRetentionPeriod": "864000"}))
	}
	configured, err := s.models()
	w.env = []string{
		"SLUICE_MODELS=" + configured,
		"SLUICE_RESULTS_S3=s3://results/out/",
		"SLUICE_DLQ_URL=" + w.dead,
		"SLUICE_QUEUE_URLS=" + strings.Join(w.queues, ","),
		"SLUICE_METRICS_NAMESPACE=",
		"SLUICE_MAX_IN_FLIGHT=" + strconv.Itoa(slots),
		"SLUICE_MAX_IN_FLIGHT_BYTES=8589934592",
		"SLUICE_QUOTA_FRACTION=" + strconv.FormatFloat(max(s.fraction, 0), 'g', -1, 64),
	}
	if s.fraction == 0 {
		w.env = w.env[:len(w.env)-1]
	}
	w.env = append(w.env, s.env...)
	// The limiters begin with the run, full.
	time.Sleep(time.Until(w.epoch))
	for _, tr := range s.tracks {
		w.aws.Bedrock().Set(tr.modelID, func(m *bedrocksim.Model) { *m = tr.truth; m.Shape = f.shape }, tr.region)
	}
	return w, err
}

func (tr track) aliases() []string { return append([]string{tr.alias}, tr.also...) }

func (tr track) key() bedrocksim.Key { return bedrocksim.Key{Region: tr.region, ModelID: tr.modelID} }

// models is the scenario's SLUICE_MODELS.
func (s *scenario) models() (string, error) {
	type route struct {
		ModelID string  `json:"model_id"`
		Region  string  `json:"region"`
		RPM     float64 `json:"rpm,omitempty"`
		TPM     float64 `json:"tpm,omitempty"`
	}
	type model struct {
		Routes   []route  `json:"routes"`
		Burndown float64  `json:"burndown"`
		Fallback []string `json:"fallback,omitempty"`
		Timeout  string   `json:"timeout,omitempty"`
	}
	all := map[string]*model{}
	for _, tr := range s.tracks {
		for _, alias := range tr.aliases() {
			m := all[alias]
			if m == nil {
				m = &model{Burndown: tr.burndown(), Timeout: s.timeout}
				if to := s.fallback[alias]; to != "" {
					m.Fallback = []string{to}
				}
				all[alias] = m
			}
			m.Routes = append(m.Routes, route{tr.modelID, tr.region, tr.rpm, tr.tpm})
		}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// lag is the network's delay, one way.
type lag struct {
	mu     sync.Mutex
	random *rand.Rand
}

const lagLeast, lagMost = 5 * time.Millisecond, 50 * time.Millisecond

func (l *lag) next() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lagLeast + time.Duration(l.random.Int64N(int64(lagMost-lagLeast)))
}

// watch notes what every invocation came to, and keeps the results.
func (w *world) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		operation := localaws.Operation(r)
		switch {
		case strings.HasPrefix(operation, "S3."):
			w.store.ServeHTTP(rw, r)
		case strings.HasPrefix(operation, "Bedrock."):
			body, err := io.ReadAll(r.Body)
			if err != nil {
				w.fail(err)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			w.arrived(r, body)
			status := statusWriter{ResponseWriter: rw, status: http.StatusOK}
			next.ServeHTTP(&status, r)
			w.answered(r, status.status)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// arrived notes an invocation. The limiter decides at the same moment, so that
// what is not refused by the next is admitted.
func (w *world) arrived(r *http.Request, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stream, index := markOf(body)
	if stream < 0 || stream >= len(w.sent) || index >= len(w.sent[stream].jobs) {
		w.failure = errors.Join(w.failure, errors.New("an invocation that is of no job"))
		return
	}
	key := keyOf(r)
	burndown := 1.0
	for _, tr := range w.tracks {
		if tr.key() == key {
			burndown = max(tr.truth.Burndown, 1)
		}
	}
	w.flying[r] = admission{key, time.Since(w.epoch), float64(w.sent[stream].jobs[index].settled(burndown)), stream}
	w.sent[stream].admitted++
}

func (w *world) answered(r *http.Request, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.flying[r]
	if !ok {
		return
	}
	delete(w.flying, r)
	if status != http.StatusOK {
		w.sent[a.stream].admitted--
	}
	if w.frozen {
		return
	}
	t := w.tallies[a.key]
	switch {
	case t == nil:
		w.failure = errors.Join(w.failure, fmt.Errorf("an invocation of %v, which the scenario does not have", a.key))
	case status == http.StatusOK:
		add(t.Requests, a.at, 1)
		add(t.Tokens, a.at, a.settled)
	case status == http.StatusTooManyRequests:
		add(t.Throttled, a.at, 1)
	default:
		add(t.Errors, a.at, 1)
	}
}

// freeze ends the counting: what is under way then counts as answered.
func (w *world) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.flying {
		t := w.tallies[a.key]
		add(t.Requests, a.at, 1)
		add(t.Tokens, a.at, a.settled)
	}
	w.frozen = true
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = errors.Join(w.failure, err)
}

// keyOf reads the ledger that a request is for from its path and signature.
func keyOf(r *http.Request) bedrocksim.Key {
	k := bedrocksim.Key{Region: region}
	k.ModelID, _, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/model/"), "/")
	if _, scope, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		if parts := strings.SplitN(scope, "/", 4); len(parts) == 4 {
			k.Region = parts[2]
		}
	}
	return k
}

// feedEvery is how often the streams are topped up.
const feedEvery = time.Second

// feed keeps the queues ahead of the drainers until ctx is done.
func (w *world) feed(ctx context.Context) error {
	for {
		if err := w.topUp(); err != nil {
			return err
		}
		select {
		case <-time.After(feedEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// topUp sends what is missing, the streams of a queue evenly mixed.
func (w *world) topUp() error {
	type due struct {
		truth
		place float64
	}
	jobs := make([][]due, len(w.queues))
	for i, st := range w.streams {
		missing := w.missing(i)
		for k, t := range missing {
			jobs[st.queue] = append(jobs[st.queue], due{t, (float64(k) + 0.5) / float64(len(missing))})
		}
	}
	for q, ds := range jobs {
		slices.SortStableFunc(ds, func(a, b due) int { return cmp.Compare(a.place, b.place) })
		ts := make([]truth, len(ds))
		for i, d := range ds {
			ts[i] = d.truth
		}
		if err := w.send(q, ts); err != nil {
			return err
		}
	}
	return nil
}

// missing draws the jobs that a stream's backlog lacks.
func (w *world) missing(i int) (jobs []truth) {
	st := w.streams[i]
	if time.Since(w.epoch) < st.from {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	want := w.sent[i].admitted + w.ahead(st)
	if st.count > 0 {
		want = st.count
	}
	for range want - len(w.sent[i].jobs) {
		t := w.sent[i].job()
		t.stream = i
		jobs = append(jobs, t)
	}
	w.sent[i].jobs = append(w.sent[i].jobs, jobs...)
	return jobs
}

// take draws the next job of a stream without a queue, as peers do; false when
// there is none.
func (w *world) take(i int) (truth, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sent[i]
	if st := w.streams[i]; st.count > 0 && len(s.jobs) >= st.count {
		return truth{}, false
	}
	t := s.job()
	t.stream = i
	s.jobs = append(s.jobs, t)
	return t, true
}

// ahead is how many jobs the stream keeps waiting: two minutes of the largest
// true quota, or as many as a drainer has slots. That is more than it holds.
func (w *world) ahead(st stream) int {
	if st.ahead > 0 {
		return st.ahead
	}
	var n float64
	for _, tr := range w.tracks {
		if !slices.Contains(tr.aliases(), st.alias) {
			continue
		}
		m, most := tr.truth, 0.0
		for i := -1; i < len(tr.changes); i++ {
			if i >= 0 {
				tr.changes[i].apply(&m)
			}
			most = max(most, tr.rate(m))
		}
		if tr.truth.TPM > 0 {
			most /= st.work.mean(max(tr.truth.Burndown, 1))
		}
		n += 2 * most
	}
	return max(100, min(int(n), slots))
}

// sendMost keeps a batch below SQS's 1 MiB.
const sendMost = 900_000

func (w *world) send(queue int, jobs []truth) error {
	var entries []types.SendMessageBatchRequestEntry
	size := 0
	flush := func() error {
		if len(entries) == 0 {
			return nil
		}
		out, err := w.near.SendMessageBatch(context.Background(), &sqs.SendMessageBatchInput{QueueUrl: &w.queues[queue], Entries: entries})
		if err == nil && len(out.Failed) > 0 {
			err = errors.New(aws.ToString(out.Failed[0].Message))
		}
		if err != nil {
			return fmt.Errorf("send jobs: %w", err)
		}
		entries, size = entries[:0], 0
		return nil
	}
	for _, t := range jobs {
		body, err := t.message(w.streams[t.stream].alias)
		if err != nil {
			return fmt.Errorf("make a job: %w", err)
		}
		if len(entries) == 10 || size+len(body) > sendMost {
			if err := flush(); err != nil {
				return err
			}
		}
		e := types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(len(entries))), MessageBody: &body}
		if t.tenant != "" {
			e.MessageGroupId = aws.String(t.tenant)
		}
		entries = append(entries, e)
		size += len(body)
	}
	return flush()
}

// drain starts a drainer.
func (w *world) drain() error {
	cfg, err := config.Load(w.env)
	if err != nil {
		return err
	}
	d, err := drainer.New(cfg, w.far, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.processes = append(w.processes, &process{Drainer: d, end: sync.OnceValue(func() error {
		stop()
		return <-done
	})})
	return nil
}

// note keeps what is believed now.
func (w *world) note() {
	w.learned = w.processes[0].Snapshot().Models[0].Routes[0].Ledger.Bucket
}

// restart stops a drainer as a deployment does, and starts another.
func (w *world) restart(i int) {
	w.fail(w.processes[i].end())
	w.fail(w.drain())
}

// play runs the scenario to its end with a pacer.
func (w *world) play(p pacer, f form) error {
	ctx, stop := context.WithCancel(context.Background())
	feeding := make(chan error, 1)
	go func() {
		if p.queued {
			feeding <- w.feed(ctx)
			return
		}
		feeding <- nil
	}()
	end, err := p.start(w, f)
	if err != nil {
		stop()
		return errors.Join(err, <-feeding)
	}
	var events sync.WaitGroup
	at := func(when time.Duration, do func()) {
		events.Go(func() {
			time.Sleep(time.Until(w.epoch.Add(when)))
			do()
		})
	}
	for _, tr := range w.tracks {
		for _, c := range tr.changes {
			at(c.at, func() { w.aws.Bedrock().Set(tr.modelID, c.apply, tr.region) })
		}
	}
	for _, a := range w.actions {
		if !p.queued {
			break // they happen to drainers
		}
		at(a.at, func() { a.do(w) })
	}
	at(w.length, w.freeze)
	events.Wait()
	stop()
	err = errors.Join(<-feeding, end())
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(err, w.failure)
}

// endDrainers stops them all at once.
func (w *world) endDrainers() error {
	errs := make([]error, len(w.processes))
	var ends sync.WaitGroup
	for i, p := range w.processes {
		ends.Go(func() { errs[i] = p.end() })
	}
	ends.Wait()
	return errors.Join(errs...)
}

// unsettled counts the jobs that are neither answered nor on a queue any more.
// (The buried have a result too.)
func (w *world) unsettled() (lost int, err error) {
	if !w.real {
		time.Sleep(time.Minute) // what the stop gave back is visible, and counted
	}
	w.mu.Lock()
	for _, s := range w.sent {
		lost += len(s.jobs)
	}
	w.mu.Unlock()
	lost -= w.store.len()
	for _, url := range w.queues {
		out, err := w.near.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
		if err != nil {
			return lost, err
		}
		for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"} {
			n, err := strconv.Atoi(out.Attributes[name])
			if err != nil {
				return lost, err
			}
			lost -= n
		}
	}
	return max(lost, 0), nil
}
