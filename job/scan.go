package job

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may nest in a job. The schemas of
// tools are the deepest thing in real requests, at a few dozen. A smaller limit
// would refuse some of those; a larger one lets a body of brackets cost every
// parser after this one a stack frame for each.
const maxDepth = 512

// scanner walks JSON text once, checking RFC 8259's grammar as it goes and
// copying nothing. encoding/json would fold case in names, keep the last of two
// equal fields, and need a second pass for the bytes of the request.
type scanner struct {
	text  []byte
	at    int // the next byte
	depth int
}

// scan checks that text is one JSON value with nothing after it, of at most max
// bytes, and gives it to value.
func scan(text []byte, limit int, value func(*scanner) *FieldError) *FieldError {
	if len(text) > limit {
		return &FieldError{Problem: fmt.Sprintf("too large: %d bytes, at most %d", len(text), limit)}
	}
	if !utf8.Valid(text) {
		return &FieldError{Problem: "not UTF-8"}
	}
	s := scanner{text: text}
	s.space()
	if err := value(&s); err != nil {
		return err
	}
	s.space()
	if s.at < len(text) {
		return s.problem("something follows the end")
	}
	return nil
}

func (s *scanner) problem(what string) *FieldError {
	return &FieldError{Problem: fmt.Sprintf("%s at byte %d", what, s.at)}
}

// syntax is the error of a byte that the grammar does not allow here.
func (s *scanner) syntax() *FieldError {
	if s.at >= len(s.text) {
		return &FieldError{Problem: "not JSON: ends too early"}
	}
	return s.problem("not JSON: unexpected character")
}

// peek returns the next byte, 0 at the end: no JSON value begins with it.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// skip passes over one value of any kind.
func (s *scanner) skip() *FieldError {
	switch c := s.peek(); c {
	case '{':
		return s.object((*scanner).skipMember)
	case '[':
		return s.array((*scanner).skipElement)
	case '"':
		_, err := s.quoted()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) skipMember([]byte) *FieldError { return s.skip() }
func (s *scanner) skipElement(int) *FieldError   { return s.skip() }

// enter and leave stand around the content of an object or array.
func (s *scanner) enter() *FieldError {
	if s.depth++; s.depth > maxDepth {
		return s.problem(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	s.at++
	s.space()
	return nil
}

func (s *scanner) leave() {
	s.at++
	s.depth--
}

// object gives each member to a function that passes over its value. The name
// is quoted still; the scanner stands at the value.
func (s *scanner) object(member func(s *scanner, name []byte) *FieldError) *FieldError {
	if err := s.enter(); err != nil {
		return err
	}
	for first := true; ; first = false {
		if first && s.peek() == '}' {
			break
		}
		name, err := s.quoted()
		if err != nil {
			return err
		}
		if s.space(); !s.accept(':') {
			return s.syntax()
		}
		s.space()
		if err := member(s, name); err != nil {
			return err
		}
		if s.space(); !s.accept(',') {
			break
		}
		s.space()
	}
	if s.peek() != '}' {
		return s.syntax()
	}
	s.leave()
	return nil
}

// array gives the index of each element to a function that passes over it.
func (s *scanner) array(element func(s *scanner, i int) *FieldError) *FieldError {
	if err := s.enter(); err != nil {
		return err
	}
	for i := 0; i > 0 || s.peek() != ']'; i++ {
		if err := element(s, i); err != nil {
			return err
		}
		if s.space(); !s.accept(',') {
			break
		}
		s.space()
	}
	if s.peek() != ']' {
		return s.syntax()
	}
	s.leave()
	return nil
}

// quoted passes over a string and returns it with its quotes.
func (s *scanner) quoted() ([]byte, *FieldError) {
	start := s.at
	if !s.accept('"') {
		return nil, s.syntax()
	}
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.text[start:s.at:s.at], nil
		case c < ' ':
			return nil, s.syntax()
		case c == '\\':
			s.at++
			if err := s.escape(); err != nil {
				return nil, err
			}
		default:
			s.at++
		}
	}
	return nil, s.syntax()
}

// escape passes over what may follow a backslash.
func (s *scanner) escape() *FieldError {
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at++
		return nil
	case 'u':
		s.at++
		for range 4 {
			switch c := s.peek(); {
			case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
				s.at++
			default:
				return s.syntax()
			}
		}
		return nil
	default:
		return s.syntax()
	}
}

func (s *scanner) literal(word string) *FieldError {
	for i := range len(word) {
		if !s.accept(word[i]) {
			return s.syntax()
		}
	}
	return nil
}

func (s *scanner) number() *FieldError {
	s.accept('-')
	if !s.accept('0') {
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.accept('.') {
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.accept('e') || s.accept('E') {
		if !s.accept('+') {
			s.accept('-')
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() *FieldError {
	start := s.at
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.at++
	}
	if s.at == start {
		return s.syntax()
	}
	return nil
}

// unquote returns what a string says that quoted has passed over.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if slices.Contains(inner, '\\') {
		var s string
		if err := json.Unmarshal(quoted, &s); err != nil {
			panic(err) // quoted has checked it
		}
		return s
	}
	return string(inner)
}
