package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicehq/sluice/pacing"
)

// outage is whether something that the worker depends on is away. It is logged
// once when it begins and once when it ends, and readiness shows it meanwhile. One
// that comes and goes, as where a single object is refused, is not logged again
// before it lasts.
type outage struct {
	name string
	log  *slog.Logger
	// check, where there is one, asks for the end of the outage; else the first
	// success that somebody reports ends it.
	check   func(context.Context) error
	run     context.Context // bounds the checking
	changed func()          // called after a beginning and after an end

	mu    sync.Mutex
	cause error
	since time.Time
	last  time.Time // the last failure
	good  time.Time // the last success
	ended time.Time // when it was away last
	told  bool      // its beginning is logged

	watching bool
}

const (
	// checkEvery bounds how long a recovered dependency goes unnoticed, and how
	// often one that is away is asked: base and longest of a backoff.
	checkFirst   = time.Second
	checkLongest = 10 * time.Second
	// checkLimit bounds a check, and every look: a dependency that hangs is away.
	checkLimit = 10 * time.Second
	// quiet after its end, an outage is a new one. Shorter, and what is tried again
	// now and then is logged each time.
	quiet = 2 * slowestFloor
	// lasting makes one worth another line before that.
	lasting = 30 * time.Second
)

// report tells how a call on the dependency ended that was made at a time. A
// failure is no news of a call made before one that has succeeded since: those
// that hung in an outage end long after it.
func (o *outage) report(made time.Time, err error) {
	o.mu.Lock()
	if errors.Is(err, context.Canceled) || err != nil && made.Before(o.good) {
		o.mu.Unlock()
		return
	}
	began := err != nil && o.cause == nil
	ended := err == nil && o.cause != nil
	switch {
	case began:
		o.cause, o.since = err, time.Now()
	case ended:
		o.cause, o.ended = nil, time.Now()
	}
	since, told := o.since, o.told
	away := o.cause != nil && (told || time.Since(o.ended) > quiet || time.Since(since) > lasting)
	o.told = away
	if err == nil {
		o.good = time.Now()
	} else {
		o.last = time.Now()
	}
	watch := began && o.check != nil && !o.watching
	o.watching = o.watching || watch
	o.mu.Unlock()
	if watch {
		go o.watch()
	}
	switch {
	case away && !told:
		o.log.Error("dependency away", "dependency", o.name, "since", since, "error", err)
	case told && !away:
		o.log.Info("dependency back", "dependency", o.name, "after", time.Since(since).Round(time.Millisecond))
	}
	if (began || ended) && o.changed != nil {
		o.changed()
	}
}

// watch asks for the end of the outage until it has come.
func (o *outage) watch() {
	for n := 0; o.watched(); n++ {
		if !sleep(o.run, pacing.Backoff(n, checkFirst, checkLongest, 1)) {
			return
		}
		made := time.Now()
		ctx, cancel := context.WithTimeout(o.run, checkLimit)
		err := o.check(ctx)
		cancel()
		o.report(made, err)
	}
}

// watched says whether there still is an outage to watch. Its end ends the watch
// under the same lock: the next outage finds one that goes on, or begins its own.
func (o *outage) watched() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watching = o.cause != nil
	return o.watching
}

// err returns what is wrong now, or nil. Without a check, what nobody has found
// wrong again for as long as the longest release is taken for mended: nobody may
// have had a reason to ask.
func (o *outage) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cause == nil || o.check == nil && time.Since(o.last) > 2*slowestFloor {
		return nil
	}
	return fmt.Errorf("%s: %w", o.name, o.cause)
}

// sleep waits and says whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
