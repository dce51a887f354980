package localaws

import (
	"cmp"
	"container/heap"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// message is one message of a queue. All of it is guarded by sqsServer.mu but
// what a send fixes for good: content, id, sent.
type message struct {
	content
	id   uuid
	sent time.Time
	// source is the ARN of the queue that a redrive took it from.
	source string

	receives      int
	firstReceived time.Time
	// receipt numbers the receives on this queue; the handle of an earlier one
	// is an old handle.
	receipt  uint32
	received time.Time // the latest receive: the 12 hours count from it

	inFlight  bool
	visibleAt time.Time // meaningful while hidden
	rank      uint64    // place in the order of receives
	places    [indexes]int
}

// content is what the sender gave.
type content struct {
	body       string
	md5        string // of the body, in hex
	attributes map[string]attribute
	group      string
	trace      string // the AWSTraceHeader system attribute
}

// size is what counts against MaximumMessageSize: the body, and each
// attribute's name, type and value.
func (c *content) size() int {
	n := len(c.body)
	for name, a := range c.attributes {
		n += len(name) + len(a.DataType) + len(a.value())
	}
	return n
}

// attribute is a message attribute as it stands on the wire.
type attribute struct {
	DataType    string  `json:"DataType"`
	StringValue *string `json:"StringValue,omitempty"`
	BinaryValue []byte  `json:"BinaryValue,omitempty"`
}

func (a attribute) value() string {
	if a.StringValue != nil {
		return *a.StringValue
	}
	return string(a.BinaryValue)
}

// maxAttributes is SQS's limit of attributes on a message.
const maxAttributes = 10

func checkAttributes(attributes map[string]attribute) error {
	if len(attributes) > maxAttributes {
		return invalidParameter("MessageAttributes", "Number of message attributes exceeds the allowed maximum [10].")
	}
	for name, a := range attributes {
		kind, _, _ := strings.Cut(a.DataType, ".")
		switch {
		case name == "" || len(name) > 256:
			return invalidParameter("MessageAttributes", "The message attribute name must be 1 to 256 characters long.")
		case kind != "String" && kind != "Number" && kind != "Binary":
			return invalidParameter("MessageAttributes", "The type of message attribute '"+name+"' is invalid.")
		case (kind == "Binary") != (a.StringValue == nil):
			return invalidParameter("MessageAttributes", "The value of message attribute '"+name+"' does not match its type.")
		case a.value() == "":
			return invalidParameter("MessageAttributes", "Message attribute '"+name+"' must contain a non-empty value.")
		case a.StringValue != nil && !validCharacters(*a.StringValue):
			return errContents
		}
	}
	return nil
}

// md5OfAttributes is the digest that SQS documents: the attributes by name, each
// of name, type and value with its length before it.
func md5OfAttributes(attributes map[string]attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	var b []byte
	put := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		put(name)
		put(a.DataType)
		if a.StringValue != nil {
			b = append(b, 1)
		} else {
			b = append(b, 2)
		}
		put(a.value())
	}
	return md5Hex(string(b))
}

// selected returns the attributes that a receive asked for: by name, by a
// prefix "name.*", or all.
func selected(attributes map[string]attribute, names []string) map[string]attribute {
	if len(attributes) == 0 || len(names) == 0 {
		return nil
	}
	out := make(map[string]attribute)
	for name, a := range attributes {
		for _, want := range names {
			prefix, isPrefix := strings.CutSuffix(want, ".*")
			if want == "All" || want == name || isPrefix && strings.HasPrefix(name, prefix) {
				out[name] = a
			}
		}
	}
	return out
}

// validCharacters tells whether s has only the characters of XML 1.0, which is
// what SQS accepts.
func validCharacters(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r == 0xFFFE || r == 0xFFFF {
			return false
		}
		i += n
	}
	return true
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// uuid is a version 4 UUID: of a message, a request, a task.
type uuid [16]byte

func newUUID() uuid {
	var id uuid
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (id uuid) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// handle is what a receipt handle says, once taken apart.
type handle struct {
	queue   uint32
	message uuid
	receipt uint32
}

func (h handle) String() string {
	b := binary.BigEndian.AppendUint32(nil, h.queue)
	b = append(b, h.message[:]...)
	b = binary.BigEndian.AppendUint32(b, h.receipt)
	return "AQEB" + base64.StdEncoding.EncodeToString(b)
}

func parseHandle(s string) (handle, bool) {
	coded, ok := strings.CutPrefix(s, "AQEB")
	if !ok {
		return handle{}, false
	}
	b, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(b) != 24 {
		return handle{}, false
	}
	return handle{
		queue:   binary.BigEndian.Uint32(b[:4]),
		message: uuid(b[4:20]),
		receipt: binary.BigEndian.Uint32(b[20:]),
	}, true
}

// An index orders messages by one thing and lets any of them be taken out. A
// message is always in byAge, and in one of the other two.
type index struct {
	slot    int // of message.places
	compare func(a, b *message) int
	heap    []*message
}

const (
	byRank = iota // what may be received now
	byVisibility
	byAge
	indexes
)

func newIndex(slot int) index {
	compare := [indexes]func(a, b *message) int{
		byRank:       func(a, b *message) int { return cmp.Compare(a.rank, b.rank) },
		byVisibility: func(a, b *message) int { return a.visibleAt.Compare(b.visibleAt) },
		byAge:        func(a, b *message) int { return a.sent.Compare(b.sent) },
	}
	return index{slot: slot, compare: compare[slot]}
}

func (x *index) add(m *message)    { heap.Push(x, m) }
func (x *index) remove(m *message) { heap.Remove(x, m.places[x.slot]) }

// first returns nil when the index is empty.
func (x *index) first() *message {
	if len(x.heap) == 0 {
		return nil
	}
	return x.heap[0]
}

// The methods of heap.Interface.

func (x *index) Len() int           { return len(x.heap) }
func (x *index) Less(i, j int) bool { return x.compare(x.heap[i], x.heap[j]) < 0 }
func (x *index) Swap(i, j int) {
	x.heap[i], x.heap[j] = x.heap[j], x.heap[i]
	x.heap[i].places[x.slot] = i
	x.heap[j].places[x.slot] = j
}

func (x *index) Push(m any) {
	m.(*message).places[x.slot] = len(x.heap)
	x.heap = append(x.heap, m.(*message))
}

func (x *index) Pop() any {
	last := len(x.heap) - 1
	m := x.heap[last]
	x.heap[last] = nil
	x.heap = x.heap[:last]
	return m
}
