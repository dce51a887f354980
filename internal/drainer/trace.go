package drainer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicehq/sluice/pacing"
)

const (
	// traceMost is the size at which a trace ends, in bytes. Smaller, and a busy
	// quota's hour does not fit (a job is two lines of 200 bytes); larger, and
	// one that was forgotten fills the disk.
	traceMost = 64 << 20
	// traceAhead is how many events may wait for the disk. More are dropped, and
	// counted: no grant waits for a file.
	traceAhead = 4096
	// traceFlush is how soon an event is in the file.
	traceFlush = time.Second
)

// trace writes the events of the ledgers to a file, a JSON object a line.
type trace struct {
	events  chan pacing.Event
	dropped atomic.Int64
	ended   atomic.Bool // full, or the file failed: said once, and no gap
	stop    chan struct{}
	loop    sync.WaitGroup
	log     *slog.Logger
}

// openTrace appends to the file until close is called or it is full. What a
// drainer that was killed left of its last line stays a line of its own.
func openTrace(path string, most int64, log *slog.Logger) (*trace, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the pacing trace: %w", err)
	}
	size, err := endLine(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the pacing trace: %w", err)
	}
	t := &trace{events: make(chan pacing.Event, traceAhead), stop: make(chan struct{}), log: log}
	t.loop.Go(func() {
		if err := t.write(f, most-size); err != nil {
			log.Error("pacing trace ends", "error", err)
		}
		t.ended.Store(true)
	})
	return t, nil
}

// endLine ends a last line that has no end, and returns the file's size.
func endLine(f *os.File) (size int64, err error) {
	there, err := f.Stat()
	if err != nil || there.Size() == 0 {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, there.Size()-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return there.Size(), nil
	}
	n, err := f.WriteString("\n")
	return there.Size() + int64(n), err
}

// record takes an event, without waiting.
func (t *trace) record(e pacing.Event) {
	if t.ended.Load() {
		return
	}
	select {
	case t.events <- e:
	default:
		t.dropped.Add(1)
	}
}

// close writes what was recorded.
func (t *trace) close() {
	close(t.stop)
	t.loop.Wait()
	if n := t.dropped.Load(); n > 0 {
		t.log.Warn("pacing trace has gaps", "dropped", n)
	}
}

// write writes events until the stop, or until there is no room for the next.
func (t *trace) write(f *os.File, room int64) (err error) {
	w := bufio.NewWriter(f)
	defer func() { err = errors.Join(err, w.Flush(), f.Close()) }()
	tick := time.NewTicker(traceFlush)
	defer tick.Stop()
	stop := t.stop
	for stop != nil || len(t.events) > 0 {
		select {
		case e := <-t.events:
			line, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if room -= int64(len(line)) + 1; room < 0 {
				t.log.Warn("pacing trace is full")
				return nil
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return err
			}
		case <-tick.C:
			if err := w.Flush(); err != nil {
				return err
			}
		case <-stop:
			stop = nil // heard; what is left is written
		}
	}
	return nil
}
