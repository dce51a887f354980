package worker

import (
	"context"
	"sync"
)

// bytesBudget bounds the bodies and unsaved outputs held at once.
type bytesBudget struct {
	max int64

	mu      sync.Mutex
	used    int64
	waiting int           // callers of take that do not fit yet
	freed   chan struct{} // closed when something is given back
}

// free returns what a receive may set aside: nothing while a large job waits for
// its room, which small ones would take again and again.
func (b *bytesBudget) free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting > 0 {
		return 0
	}
	return max(0, b.max-b.used)
}

// take waits until n bytes fit, and says whether they did before ctx ended.
// Whatever its size, one fits into an empty budget.
func (b *bytesBudget) take(ctx context.Context, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	defer func() { b.waiting-- }()
	for b.used > 0 && b.used+n > b.max {
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
	b.used += n
	return true
}

// add moves what is used, whether it fits or not: an output is here already. A
// negative n gives back.
func (b *bytesBudget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if n < 0 && b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

func (b *bytesBudget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
