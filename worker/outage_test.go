package worker

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An outage that begins again while the last one's end is being noticed is
// watched as well.
func TestEachOutageIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			o := &outage{
				name: "x", log: slog.New(slog.DiscardHandler), run: t.Context(),
				check: func(context.Context) error { return nil },
			}
			o.report(time.Now(), errors.New("away"))
			time.Sleep(checkFirst) // the check is made now
			var calls sync.WaitGroup
			var noticed atomic.Bool
			for range 4 { // they keep the watcher from its lock
				calls.Go(func() {
					for !noticed.Load() {
						_ = o.err()
					}
				})
			}
			for o.err() != nil {
				runtime.Gosched()
			}
			o.report(time.Now(), errors.New("away again"))
			noticed.Store(true)
			calls.Wait()
			time.Sleep(time.Minute)
			if o.err() != nil {
				t.Fatal("nobody asks for the end of the second outage")
			}
		}
	})
}
