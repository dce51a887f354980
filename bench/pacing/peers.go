package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"golang.org/x/time/rate"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/pacing"
)

// Peers are what people write in place of Sluice, each in its usual form and in
// the best that we know for it. They are better off than Sluice: they draw the
// next job out of thin air, know each job's true input, and lose nothing when a
// job is given up after its last try: it is tried again.

// peer is a loop that starts jobs when its gate permits, by the real SDK client.
type peer struct {
	workers int // at once; 0: as many as the gate permits
	retries func() aws.Retryer
	gate    gate
	giveUp  time.Duration // after which a job that was given up is tried again
	most    float64       // tokens that a job may reserve, or it is dropped; 0: any
}

// gate decides when a request starts. Its methods are called by one goroutine
// at a time.
type gate interface {
	// when is the earliest start as things stand.
	when(now time.Time, t truth) time.Time
	start(now time.Time, t truth)
	// end says what became of the request that was started then.
	end(now, started time.Time, t truth, refused bool)
}

// open is the gate of those who let 429s decide.
type open struct{}

func (open) when(now time.Time, _ truth) time.Time { return now }
func (open) start(time.Time, truth)                {}
func (open) end(time.Time, time.Time, truth, bool) {}

func standard(attempts int) func() aws.Retryer {
	return func() aws.Retryer {
		return retry.NewStandard(tries(attempts))
	}
}

func adaptive(attempts int) func() aws.Retryer {
	return func() aws.Retryer {
		return patient{retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
			o.FailOnNoAttemptTokens = true
			o.StandardOptions = append(o.StandardOptions, tries(attempts))
		})}
	}
}

// patient waits for a token of the adaptive mode ten milliseconds at a time. The
// mode's own wait can round to nothing, and then asks again for ever where time
// passes only while everybody waits.
type patient struct{ *retry.AdaptiveMode }

func (p patient) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	for {
		release, err := p.AdaptiveMode.GetAttemptToken(ctx)
		if err == nil || ctx.Err() != nil {
			return release, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// tries is the SDK's default, or without its budget of retries, at the end of
// which it gives up at once.
func tries(attempts int) func(*retry.StandardOptions) {
	return func(o *retry.StandardOptions) {
		if o.MaxAttempts = attempts; attempts > usualTries {
			o.RateLimiter = ratelimit.None
		}
	}
}

func none() aws.Retryer { return aws.NopRetryer{} }

const (
	// usualWorkers is a pool as examples have it, tries the SDK's default.
	usualWorkers, usualTries = 10, 3
	// patientTries lets the SDK's backoff reach its longest pause, 20 s.
	patientTries = 10
	// modest is the part of the quota that a careful peer asks for.
	modest = 0.95
)

// peers are all of them.
func peers() []pacer {
	return []pacer{
		loop("standard", func(tr track, _ form) peer {
			return peer{workers: usualWorkers, retries: standard(usualTries), gate: open{}, giveUp: visibility}
		}),
		loop("standard*", func(tr track, _ form) peer {
			return peer{workers: enough(tr), retries: standard(patientTries), gate: open{}, giveUp: visibility}
		}),
		loop("adaptive", func(tr track, _ form) peer {
			return peer{workers: usualWorkers, retries: adaptive(usualTries), gate: open{}, giveUp: visibility}
		}),
		loop("adaptive*", func(tr track, _ form) peer {
			return peer{workers: enough(tr), retries: adaptive(patientTries), gate: open{}, giveUp: visibility}
		}),
		// Requests a second, for what a job reserves or (*) settles.
		loop("rate", func(tr track, _ form) peer {
			return peer{retries: standard(usualTries), gate: &spaced{limit: rate.NewLimiter(rate.Limit(perSecond(tr, reservation(tr))), 1)}, giveUp: visibility}
		}),
		loop("rate*", func(tr track, _ form) peer {
			return peer{retries: standard(usualTries), gate: &spaced{limit: rate.NewLimiter(rate.Limit(modest*perSecond(tr, tr.work.mean(tr.burndown()))), 1)}, giveUp: visibility}
		}),
		// Buckets of a minute, charged with max_tokens; or (*) of what the limiter
		// is told to hold, given back what was not used.
		loop("double", func(tr track, _ form) peer {
			return peer{retries: standard(usualTries), gate: newReplica(tr, []account{newBucket(time.Minute)}, replica{}), giveUp: visibility}
		}),
		loop("double*", func(tr track, f form) peer {
			return peer{retries: standard(usualTries), gate: newReplica(tr, []account{newBucket(f.hold)}, replica{settles: true, part: modest}), giveUp: visibility}
		}),
		loop("minute", func(tr track, _ form) peer {
			return peer{retries: standard(usualTries), gate: newReplica(tr, []account{&calendar{}}, replica{}), giveUp: visibility}
		}),
		loop("minute*", func(tr track, _ form) peer {
			return peer{retries: standard(usualTries), gate: newReplica(tr, []account{&calendar{}}, replica{settles: true, part: modest}), giveUp: visibility}
		}),
	}
}

// toldName is the pacer that was told the limiter: an exact replica of it, of
// its changes as they happen and of the neighbour, with what a network of unknown
// delays asks for, and no doubt about anything else. What it misses, nobody
// behind that network gets.
const toldName = "told"

// shapeName is the pacer that was told the shape: the same replica, of a limiter
// whose quota it knows at all times, and how much of it a neighbour takes. It
// knows no size but as Sluice does, by estimates with the same margin, and no
// single request of the neighbour's.
const shapeName = "shape"

// toldRoom is what it leaves for settlements that it has not heard of yet, in
// means of what they take above their reservation. On buckets of one to three
// seconds and burndown 15 it is refused 1 to 5 times per 1,000; with a room of 1
// 4 to 7 times, with none 16 to 44 times. With 2 it waits for the bucket of one
// second to be full, and gets 94 % of it in place of 99.
const toldRoom = 1.5

func told() pacer { return informed(toldName, false) }

func toldShape() pacer { return informed(shapeName, true) }

// informed is a pacer that was told the limiter; but for one that is estimating, the
// jobs and the neighbour's requests too.
func informed(name string, estimating bool) pacer {
	return pacer{name: name, start: func(w *world, f form) (func() error, error) {
		tr := w.tracks[0]
		tr.rpm, tr.tpm = tr.truth.RPM, tr.truth.TPM
		var accounts []account
		switch {
		case f.name == "calendar":
			accounts = append(accounts, &calendar{margin: lagMost})
		case f.minutes:
			accounts = append(accounts, &window{})
		default:
			accounts = append(accounts, newBucket(f.hold))
		}
		if f.name == "bucket60+1" {
			accounts = append(accounts, newBucket(time.Minute))
		}
		r := newReplica(tr, accounts, replica{settles: true, margin: lagMost - lagLeast, late: 2 * lagMost})
		if estimating {
			r.estimates = &estimates{Estimator: pacing.NewEstimator(tr.burndown(), tr.work.maxTokens), open: map[int]pacing.Charge{}}
		}
		p := peer{retries: none, gate: &follower{replica: r, epoch: w.epoch, model: tr.truth, changes: tr.changes, since: w.epoch, room: toldRoom * tr.excess()}}
		if f.minutes {
			p.most = tr.tpm // no minute admits more
		}
		return w.loop(p)
	}}
}

func (tr track) burndown() float64 { return max(tr.truth.Burndown, 1) }

// enough is the number of workers that keeps the quota busy: Little's law.
func enough(tr track) int {
	latency := (tr.work.seconds[0]+tr.work.seconds[1])/2 + 0.1
	return max(1, int(math.Ceil(perSecond(tr, tr.work.mean(tr.burndown()))*latency)))
}

// reservation is what a job of the track reserves, in tokens, roughly.
func reservation(tr track) float64 {
	s := newSource(tr.work, 1, 0)
	var total float64
	const n = 2_000
	for range n {
		total += float64(s.job().reserve())
	}
	return total / n
}

// excess is what a job of the track settles above its reservation, in tokens,
// roughly.
func (tr track) excess() float64 {
	s := newSource(tr.work, 1, 0)
	var total float64
	const n = 2_000
	for range n {
		t := s.job()
		total += float64(max(0, t.settled(tr.burndown())-t.reserve()))
	}
	return total / n
}

// perSecond is the configured quota in jobs that cost so many tokens.
func perSecond(tr track, tokens float64) float64 {
	if tr.tpm > 0 {
		return tr.tpm / tokens / 60
	}
	return tr.rpm / 60
}

// loop makes a pacer of a peer. It plays the scenarios of one track.
func loop(name string, of func(track, form) peer) pacer {
	return pacer{name: name, start: func(w *world, f form) (func() error, error) { return w.loop(of(w.tracks[0], f)) }}
}

// loop puts a peer to work until the function that it returns is called.
func (w *world) loop(p peer) (end func() error, err error) {
	if len(w.tracks) != 1 {
		return nil, errors.New("peers know one model")
	}
	r := &running{peer: p, world: w, wake: make(chan struct{}, 1)}
	r.client = bedrockruntime.NewFromConfig(w.far, func(o *bedrockruntime.Options) { o.Retryer = r.retries() })
	ctx, stop := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { r.run(ctx) })
	return func() error {
		stop()
		loop.Wait()
		r.calls.Wait()
		return nil
	}, nil
}

// running is a peer at work.
type running struct {
	peer
	world  *world
	client *bedrockruntime.Client
	calls  sync.WaitGroup
	wake   chan struct{} // something ended

	mu       sync.Mutex // guards what follows, and the gate
	inFlight int
	again    []returning // given up by the SDK
}

// returning is a job that was given up, and when its message is visible again.
type returning struct {
	truth
	due time.Time
}

// visibility is SQS's default visibility timeout: what is given up is received
// again after it.
const visibility = 30 * time.Second

func (r *running) run(ctx context.Context) {
	select {
	case <-time.After(time.Until(r.world.epoch.Add(r.world.streams[0].from))):
	case <-ctx.Done():
	}
	var next *truth
	for ctx.Err() == nil {
		r.mu.Lock()
		if next == nil {
			next = r.next()
		}
		now, at := time.Now(), time.Time{}
		free := next != nil && (r.workers == 0 || r.inFlight < r.workers)
		if free {
			at = r.gate.when(now, *next)
		}
		start := free && !at.After(now)
		if start {
			r.inFlight++
			r.gate.start(now, *next)
			t := *next
			next = nil
			r.calls.Go(func() { r.call(ctx, t, now) })
		}
		r.mu.Unlock()
		if start {
			continue
		}
		wait := time.Hour
		if free {
			wait = at.Sub(now)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// next is the next job, one that was given up first. Caller holds mu.
func (r *running) next() *truth {
	if len(r.again) > 0 && !r.again[0].due.After(time.Now()) {
		t := r.again[0].truth
		r.again = r.again[1:]
		return &t
	}
	for {
		t, ok := r.world.take(0)
		if !ok {
			return nil
		}
		if r.most == 0 || float64(t.reserve()) <= r.most {
			return &t
		}
	}
}

func (r *running) call(ctx context.Context, t truth, started time.Time) {
	content := []types.ContentBlock{&types.ContentBlockMemberText{Value: t.text()}}
	if t.image {
		content = append(content, &types.ContentBlockMemberImage{Value: types.ImageBlock{
			Format: types.ImageFormatPng, Source: &types.ImageSourceMemberBytes{Value: []byte{0, 0, 0}},
		}})
	}
	_, err := r.client.Converse(ctx, &bedrockruntime.ConverseInput{
		ModelId:         aws.String(r.world.tracks[0].modelID),
		Messages:        []types.Message{{Role: types.ConversationRoleUser, Content: content}},
		InferenceConfig: &types.InferenceConfiguration{MaxTokens: aws.Int32(int32(t.maxTokens))},
	})
	r.mu.Lock()
	r.inFlight--
	refused := false
	if err != nil && ctx.Err() == nil {
		var failed *awshttp.ResponseError
		refused = errors.As(err, &failed) && failed.HTTPStatusCode() == http.StatusTooManyRequests
		if !refused {
			r.world.fail(fmt.Errorf("peer: %w", err))
		}
		r.again = append(r.again, returning{t, time.Now().Add(r.giveUp)})
	}
	r.gate.end(time.Now(), started, t, refused)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// spaced is golang.org/x/time/rate: so many requests a second, whatever their
// size.
type spaced struct {
	limit *rate.Limiter
}

func (s *spaced) when(now time.Time, _ truth) time.Time {
	r := s.limit.ReserveN(now, 1)
	defer r.CancelAt(now)
	return now.Add(r.DelayFrom(now))
}
func (s *spaced) start(now time.Time, _ truth)          { s.limit.AllowN(now, 1) }
func (s *spaced) end(time.Time, time.Time, truth, bool) {}

// replica is a gate that counts what it started in accounts of both dimensions.
type replica struct {
	burndown   float64
	settles    bool    // what was not used is given back
	part       float64 // of the quota that it asks for; 0: all
	margin     time.Duration
	late       time.Duration
	by         [2][]account // requests, tokens
	*estimates              // nil: sizes are known
}

// estimates are what jobs are believed to cost.
type estimates struct {
	*pacing.Estimator
	open     map[int]pacing.Charge // of the jobs that are in flight
	variance float64               // of those
}

func (e *estimates) of(t truth) pacing.Charge {
	if c, ok := e.open[t.index]; ok {
		return c
	}
	return e.Estimate(t.size(), t.tenant)
}

func (e *estimates) margin(t truth) float64 {
	return float64(pacing.Apart(e.variance, e.of(t).Doubt))
}

func (e *estimates) start(t truth) {
	c := e.of(t)
	e.open[t.index] = c
	e.variance += float64(c.Doubt) * float64(c.Doubt)
}

func (e *estimates) end(t truth, refused bool) {
	c := e.open[t.index]
	delete(e.open, t.index)
	e.variance = max(0, e.variance-float64(c.Doubt)*float64(c.Doubt))
	if !refused {
		e.Learn(t.size(), t.tenant, pacing.Usage{Input: t.input, Output: t.output})
	}
}

// account is one dimension of one shape.
type account interface {
	// limit is told first, with the gate's margins, and again of each change: the
	// quota, and what part of it others leave.
	limit(now time.Time, perMinute, left float64, margin, late time.Duration)
	clone() account
	when(now time.Time, cost float64) time.Time
	take(now time.Time, cost float64)
	give(now, started time.Time, part float64)
	// refused: the limiter had less than that.
	refused(now time.Time, cost float64)
}

func newReplica(tr track, shapes []account, r replica) *replica {
	if r.part == 0 {
		r.part = 1
	}
	r.burndown = tr.burndown()
	quotas := [...]float64{tr.rpm, tr.tpm}
	for d, quota := range quotas {
		for _, a := range shapes {
			if quota > 0 {
				r.by[d] = append(r.by[d], a.clone())
			}
		}
	}
	r.limit(time.Now(), quotas, 1)
	return &r
}

func (r *replica) limit(now time.Time, quotas [2]float64, left float64) {
	for d, quota := range quotas {
		for _, a := range r.by[d] {
			a.limit(now, r.part*quota, left, r.margin, r.late)
		}
	}
}

// costs are a job's in both dimensions.
func (r *replica) costs(t truth) [2]float64 {
	if r.estimates != nil {
		return [2]float64{1, float64(r.of(t).Reserve)}
	}
	return [2]float64{1, float64(t.reserve())}
}

func (r *replica) when(now time.Time, t truth) time.Time { return r.permits(now, r.costs(t)) }

func (r *replica) permits(now time.Time, costs [2]float64) time.Time {
	at := now
	for d, cost := range costs {
		for _, a := range r.by[d] {
			if w := a.when(now, cost); w.After(at) {
				at = w
			}
		}
	}
	return at
}

func (r *replica) start(now time.Time, t truth) {
	r.take(now, r.costs(t))
	if r.estimates != nil {
		r.estimates.start(t)
	}
}

func (r *replica) take(now time.Time, costs [2]float64) {
	for d, cost := range costs {
		for _, a := range r.by[d] {
			a.take(now, cost)
		}
	}
}

func (r *replica) end(now, started time.Time, t truth, refused bool) {
	for d, cost := range r.costs(t) {
		for _, a := range r.by[d] {
			switch {
			case refused && r.margin == 0:
				// Whoever only counts what it sent lets the charge stand: given back,
				// it would be spent on the next refusal at once.
			case refused:
				a.give(now, started, cost)
				a.refused(now, cost)
			case d == 1 && r.settles:
				a.give(now, started, cost-float64(t.settled(r.burndown)))
			}
		}
	}
	if r.estimates != nil {
		r.estimates.end(t, refused)
	}
}

// follower is a replica of a limiter that changes, and that others use.
type follower struct {
	*replica
	epoch   time.Time
	room    float64          // tokens that it leaves
	model   bedrocksim.Model // as it is now
	changes []change         // to come

	since   time.Time     // the model is as it is
	ticks   time.Duration // of the neighbour's stream, since then
	waiting int           // its refused requests
	pause   time.Time     // after a refusal
	left    float64       // of the quota, where only a neighbour's part is known; 0: not yet asked
}

// askAgain is how soon a follower may find what nothing else wakes it for: a
// quota that was raised, a neighbour that paused, an end to what it was refused
// for and does not understand.
const askAgain = 100 * time.Millisecond

// when lets everything happen that has happened by now. The neighbour's line
// goes first.
func (f *follower) when(now time.Time, t truth) time.Time {
	for len(f.changes) > 0 && !f.epoch.Add(f.changes[0].at).After(now) {
		at := f.epoch.Add(f.changes[0].at)
		if f.estimates == nil {
			f.crowd(at)
		}
		f.since = at
		f.changes[0].apply(&f.model)
		f.changes = f.changes[1:]
		f.limit(f.since, [...]float64{f.model.RPM, f.model.TPM}, 1)
		f.ticks, f.left = 0, 1
	}
	costs := f.costs(t)
	costs[1] += f.room
	line := now
	if f.estimates != nil {
		costs[1] += f.estimates.margin(t)
		f.leave(now)
	} else {
		line = f.crowd(now)
	}
	at := f.permits(now, costs)
	switch {
	case f.pause.After(now):
		return f.pause
	case line.After(now):
		at = line
	}
	if latest := now.Add(askAgain); at.After(latest) {
		return latest
	}
	return at
}

func (f *follower) end(now, started time.Time, t truth, refused bool) {
	if f.replica.end(now, started, t, refused); refused {
		f.pause = now.Add(askAgain)
	}
}

// leave takes what the neighbour leaves at the time.
func (f *follower) leave(now time.Time) {
	n, left := f.model.Neighbour, 1.0
	if n.On == 0 || now.Sub(f.since)%(n.On+n.Off) < n.On {
		left = 1 - n.Fraction
	}
	if left != f.left {
		f.limit(now, [...]float64{f.model.RPM, f.model.TPM}, left)
		f.left = left
	}
}

// crowd plays the neighbour as the simulator does, up to what may arrive before
// a request that starts now. It returns when the first of its line is served.
func (f *follower) crowd(now time.Time) time.Time {
	n := f.model.Neighbour
	every, size := n.Stream(quotaOf(f.model))
	if every == 0 {
		f.waiting = 0
		return now
	}
	costs := [...]float64{1, size}
	serve := func(at time.Time) {
		for ; f.waiting > 0 && !f.permits(at, costs).After(at); f.waiting-- {
			f.take(at, costs)
		}
	}
	for ; ; f.ticks += every {
		after := f.ticks + every
		at := f.since.Add(after - lagMost)
		if at.After(now) {
			break
		}
		if n.On > 0 && after%(n.On+n.Off) >= n.On {
			f.waiting = 0
			continue
		}
		f.waiting = min(f.waiting+1, 1+int(time.Minute/every))
		serve(at)
	}
	if serve(now); f.waiting == 0 {
		return now
	}
	return f.permits(now, costs)
}

// window is the rolling minute, exact.
type window struct {
	quota  float64
	margin time.Duration
	used   float64
	log    []charge
}

type charge struct {
	at   time.Time
	cost float64
}

func (w *window) clone() account { return &window{} }
func (w *window) limit(_ time.Time, perMinute, left float64, margin, _ time.Duration) {
	w.quota, w.margin = perMinute*left, margin
}

func (w *window) when(now time.Time, cost float64) time.Time {
	for len(w.log) > 0 && !w.log[0].at.Add(time.Minute+w.margin).After(now) {
		w.used -= w.log[0].cost
		w.log = w.log[1:]
	}
	over := w.used + cost - w.quota
	if over <= 1e-6 || len(w.log) == 0 {
		return now
	}
	for _, c := range w.log {
		if over -= c.cost; over <= 1e-6 {
			return c.at.Add(time.Minute + w.margin)
		}
	}
	return w.log[len(w.log)-1].at.Add(time.Minute + w.margin)
}

func (w *window) take(now time.Time, cost float64) {
	w.used += cost
	w.log = append(w.log, charge{now, cost})
}

func (w *window) give(_, started time.Time, part float64) {
	for i := range w.log {
		if w.log[i].at.Equal(started) {
			w.log[i].cost -= part
			w.used -= part
			return
		}
	}
}

func (w *window) refused(time.Time, float64) {}

// calendar counts from full minute to full minute. With a margin, a start that
// may arrive in the next minute counts in both.
type calendar struct {
	quota  float64
	margin time.Duration
	used   map[time.Time]float64
}

func (c *calendar) clone() account { return &calendar{margin: c.margin} }
func (c *calendar) limit(_ time.Time, perMinute, left float64, _, _ time.Duration) {
	if c.quota = perMinute * left; c.used == nil {
		c.used = map[time.Time]float64{}
	}
}

func (c *calendar) minutes(now time.Time) (first, last time.Time) {
	if c.margin > 0 {
		now = now.Add(lagLeast)
	}
	return now.Truncate(time.Minute), now.Add(c.margin).Truncate(time.Minute)
}

func (c *calendar) when(now time.Time, cost float64) time.Time {
	first, last := c.minutes(now)
	next := last.Add(time.Minute)
	if first != last {
		next = last
	}
	if max(c.used[first], c.used[last])+cost > c.quota && c.used[first] > 0 {
		return next
	}
	return now
}

func (c *calendar) add(at time.Time, cost float64) {
	first, last := c.minutes(at)
	c.used[first] += cost
	if last != first {
		c.used[last] += cost
	}
}

func (c *calendar) take(now time.Time, cost float64)        { c.add(now, cost) }
func (c *calendar) give(_, started time.Time, part float64) { c.add(started, -part) }
func (c *calendar) refused(time.Time, float64)              {}

// bucket holds so much time's worth of the quota. The margins are those of
// pacing.md section 4.
type bucket struct {
	hold         time.Duration
	margin, late time.Duration
	rate         float64 // a second
	capacity     float64
	slack        float64 // what the margin's time is worth
	level        float64
	at           time.Time
	recent       []charge // within late
}

func newBucket(hold time.Duration) *bucket { return &bucket{hold: hold} }
func (b *bucket) clone() account           { return newBucket(b.hold) }

func (b *bucket) limit(now time.Time, perMinute, left float64, margin, late time.Duration) {
	b.refill(now)
	began := b.rate == 0
	b.rate = perMinute / 60 * left
	b.capacity = max(1, perMinute/60*b.hold.Seconds())
	b.margin, b.late = margin, late
	b.slack = margin.Seconds() * b.rate
	if began {
		b.level = b.capacity
	}
	b.level = min(b.level, b.capacity+b.slack)
}

func (b *bucket) refill(now time.Time) {
	if !b.at.IsZero() {
		b.level = min(b.capacity+b.slack, b.level+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
}

func (b *bucket) when(now time.Time, cost float64) time.Time {
	b.refill(now)
	need, level := min(cost, b.capacity)+b.slack, b.level
	if cost <= b.capacity-b.slack {
		level = min(level, b.capacity)
	}
	if level >= need-1e-6 {
		return now
	}
	return now.Add(time.Duration((need - level) / b.rate * float64(time.Second))).Add(time.Microsecond)
}

func (b *bucket) take(now time.Time, cost float64) {
	b.refill(now)
	b.level = min(b.level, b.capacity) - cost
	if b.late > 0 {
		b.recent = append(b.recent, charge{now, cost})
	}
}

// give clips a refund at what the bucket may have held before the charges that
// may arrive after it.
func (b *bucket) give(now, _ time.Time, part float64) {
	b.refill(now)
	most := b.capacity
	for len(b.recent) > 0 && now.Sub(b.recent[0].at) > b.late {
		b.recent = b.recent[1:]
	}
	for _, c := range b.recent {
		most -= c.cost
	}
	if part < 0 {
		b.level += part
		return
	}
	b.level = max(b.level, min(b.level+part, most))
}

func (b *bucket) refused(_ time.Time, cost float64) { b.level = min(b.level, cost/2) }
