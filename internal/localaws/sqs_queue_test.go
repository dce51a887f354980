package localaws

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// plainMessage is what a queue without indexes would keep.
type plainMessage struct {
	id        uuid
	visibleAt time.Time
	inFlight  bool
	receives  int
	handles   []string // by receive
}

// FuzzQueue runs a script of operations against the queue and against a plain
// list, and compares what is received and counted. Each byte is one operation:
// its kind in the low bits, its argument in the high ones.
func FuzzQueue(f *testing.F) {
	f.Add([]byte("\x00\x08\x10\x01\x09\x02\x04\x11\x03\x05\x0c\x02"))
	f.Add([]byte("the quick brown fox jumps over the lazy dog, twice and once more"))
	f.Fuzz(func(t *testing.T, script []byte) {
		// A list takes quadratic time, and its messages must not outlive retention.
		script = script[:min(len(script), 500)]
		synctest.Test(t, func(t *testing.T) { runScript(t, script) })
	})
}

func runScript(t *testing.T, script []byte) {
	s := newSQS(func() string { return "http://aws.localhost" })
	url, err := s.create("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []*plainMessage // by the time of their sends
	visible := func(m *plainMessage) bool { return !time.Now().Before(m.visibleAt) }
	for step, b := range script {
		kind, arg := b&7, int(b>>3)
		for _, m := range list {
			m.inFlight = m.inFlight && !visible(m)
		}
		switch kind {
		case 0, 1: // send, now or later
			delay := arg * int(kind)
			id, err := s.send(url, content{body: strconv.Itoa(step)}, &delay)
			if err != nil {
				t.Fatalf("step %d: send: %v", step, err)
			}
			list = append(list, &plainMessage{id: id, visibleAt: time.Now().Add(time.Duration(delay) * time.Second)})
		case 2, 3: // receive
			none, most := 0, arg%10+1
			got, err := s.receive(t.Context(), url, most, &none, &arg)
			if err != nil {
				t.Fatalf("step %d: receive: %v", step, err)
			}
			var want, have []string
			for _, m := range list {
				if visible(m) && len(want) < most {
					m.receives++
					m.inFlight, m.visibleAt = arg > 0, time.Now().Add(time.Duration(arg)*time.Second)
					want = append(want, m.id.String()+" "+strconv.Itoa(m.receives))
				}
			}
			for _, r := range got {
				have = append(have, r.id.String()+" "+strconv.Itoa(r.receives))
				i := slices.IndexFunc(list, func(m *plainMessage) bool { return m.id == r.id })
				list[i].handles = append(list[i].handles, r.handle.String())
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Fatalf("step %d: received (-list +queue):\n%s", step, diff)
			}
		case 4, 5: // extend or release, with the latest handle or an older one
			m, handle := pick(list, arg)
			if m == nil {
				continue
			}
			err := s.setVisibility(url, handle, arg)
			if latest := m.handles[len(m.handles)-1]; handle != latest || !m.inFlight {
				if !errors.Is(err, errNotInFlight) {
					t.Fatalf("step %d: extend what is not in flight: %v", step, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("step %d: extend: %v", step, err)
			}
			m.visibleAt = time.Now().Add(time.Duration(arg) * time.Second)
		case 6: // delete
			m, handle := pick(list, arg)
			if m == nil {
				continue
			}
			if err := s.remove(url, handle); err != nil {
				t.Fatalf("step %d: delete: %v", step, err)
			}
			if handle == m.handles[len(m.handles)-1] {
				list = slices.DeleteFunc(list, func(other *plainMessage) bool { return other == m })
			}
		case 7:
			time.Sleep(time.Duration(arg) * time.Second)
		}
		ready, inFlight := 0, 0
		for _, m := range list {
			if visible(m) {
				ready++
			} else if m.inFlight {
				inFlight++
			}
		}
		got, err := s.describe(url)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]int{
			"ApproximateNumberOfMessages": ready, "ApproximateNumberOfMessagesNotVisible": inFlight,
			"ApproximateNumberOfMessagesDelayed": len(list) - ready - inFlight,
		} {
			if got[name] != strconv.Itoa(want) {
				t.Fatalf("step %d: %s is %s, want %d", step, name, got[name], want)
			}
		}
	}
}

// pick returns a message that was received, and one of its handles.
func pick(list []*plainMessage, arg int) (*plainMessage, string) {
	for i, m := range list {
		if len(m.handles) > 0 && (i+arg)%2 == 0 {
			return m, m.handles[min(arg, len(m.handles)-1)]
		}
	}
	return nil, ""
}

func TestTooManyInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSQS(func() string { return "http://aws.localhost" })
		url, err := s.create("jobs", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range maxInFlight + 1 {
			if _, err := s.send(url, content{body: "x"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		short, long, hour := 0, 20, 3600
		n := 0
		for n < maxInFlight {
			got, err := s.receive(t.Context(), url, 10, &short, &hour)
			if err != nil || len(got) == 0 {
				t.Fatalf("after %d: %d messages, %v", n, len(got), err)
			}
			n += len(got)
		}
		if _, err := s.receive(t.Context(), url, 10, &short, &hour); !errors.Is(err, errOverLimit) {
			t.Errorf("a short poll: %v, want OverLimit", err)
		}
		start := time.Now()
		got, err := s.receive(t.Context(), url, 10, &long, &hour)
		if err != nil || len(got) != 0 || time.Since(start) != 20*time.Second {
			t.Errorf("a long poll: %d messages, %v, after %v; want none after 20 s", len(got), err, time.Since(start))
		}
		time.Sleep(time.Hour)
		if got, err := s.receive(t.Context(), url, 10, &short, &hour); err != nil || len(got) != 10 {
			t.Errorf("once the leases have lapsed: %d messages, %v", len(got), err)
		}
	})
}

// A message that was received three times goes to the back of the queue, where
// the redrive policy would allow it more than three.
func TestOftenReceivedMessagesGoToTheBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSQS(func() string { return "http://aws.localhost" })
		if _, err := s.create("dead", nil); err != nil {
			t.Fatal(err)
		}
		url, err := s.create("jobs", map[string]string{"RedrivePolicy": `{"deadLetterTargetArn":"` + queueARN("dead") + `","maxReceiveCount":"100"}`})
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{"a", "b"} {
			if _, err := s.send(url, content{body: body}, nil); err != nil {
				t.Fatal(err)
			}
		}
		var order []string
		none := 0
		for range 6 {
			got, err := s.receive(t.Context(), url, 1, &none, &none)
			if err != nil || len(got) != 1 {
				t.Fatalf("received %d messages, %v", len(got), err)
			}
			order = append(order, got[0].body)
		}
		if want := []string{"a", "a", "a", "b", "b", "b"}; !slices.Equal(order, want) {
			t.Errorf("received in the order %v, want %v", order, want)
		}
	})
}

func TestIndexKeepsItsPlaces(t *testing.T) {
	t.Parallel()
	x := newIndex(byRank)
	var all []*message
	for i := range 100 {
		m := &message{rank: uint64(i * 37 % 100)}
		all = append(all, m)
		x.add(m)
	}
	for i, m := range all {
		if i%3 == 0 {
			x.remove(m)
		}
	}
	var got []uint64
	for m := x.first(); m != nil; m = x.first() {
		got = append(got, m.rank)
		x.remove(m)
	}
	if len(got) != 66 || !slices.IsSorted(got) {
		t.Errorf("took out %d in the order %v", len(got), got)
	}
}
