package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"
)

// decoder reads JSON into structs strictly: an unknown or doubled field, a
// null, or a name in another case is a problem with its path. encoding/json
// stops at the first problem, gives no path, and lets the last of two
// "sonnet" win.
type decoder struct {
	problems
}

// read decodes one valid JSON text into v, by kind.
func (d *decoder) read(path string, raw json.RawMessage, v reflect.Value) {
	if string(raw) == "null" {
		d.addf(path, "must be %s, not null", noun(v.Type()))
		return
	}
	switch {
	case v.Kind() == reflect.Pointer: // a field that may be absent
		v.Set(reflect.New(v.Type().Elem()))
		d.read(path, raw, v.Elem())
	case v.Kind() == reflect.Struct:
		d.object(path, raw, v)
	case v.Kind() == reflect.Map:
		d.table(path, raw, v)
	case v.Kind() == reflect.Slice:
		d.list(path, raw, v)
	default:
		if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
			d.addf(path, "must be %s, not %s", noun(v.Type()), raw)
		}
	}
}

func (d *decoder) object(path string, raw json.RawMessage, v reflect.Value) {
	fields := make(map[string]int)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
	}
	for _, m := range d.members(path, raw, v.Type()) {
		if i, ok := fields[m.name]; ok {
			d.read(m.path, m.raw, v.Field(i))
		} else {
			d.addf(m.path, "unknown field")
		}
	}
}

func (d *decoder) table(path string, raw json.RawMessage, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, m := range d.members(path, raw, v.Type()) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.read(m.path, m.raw, element)
		v.SetMapIndex(reflect.ValueOf(m.name), element)
	}
}

func (d *decoder) list(path string, raw json.RawMessage, v reflect.Value) {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		d.addf(path, "must be %s", noun(v.Type()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(elements), len(elements)))
	for i, raw := range elements {
		d.read(fmt.Sprintf("%s[%d]", path, i), raw, v.Index(i))
	}
}

type member struct {
	name, path string
	raw        json.RawMessage
}

// members are the members of the object in raw, in order; of two with one name
// the first.
func (d *decoder) members(path string, raw json.RawMessage, t reflect.Type) []member {
	if raw[0] != '{' {
		d.addf(path, "must be %s", noun(t))
		return nil
	}
	var members []member
	seen := make(map[string]bool)
	in := json.NewDecoder(bytes.NewReader(raw))
	in.Token() // the brace; the text is known to be valid, here and below
	for in.More() {
		token, _ := in.Token()
		m := member{name: token.(string)}
		m.path = m.name
		if path != "" {
			m.path = path + "." + m.name
		}
		in.Decode(&m.raw)
		if seen[m.name] {
			d.addf(m.path, "stands there twice")
			continue
		}
		seen[m.name] = true
		members = append(members, m)
	}
	return members
}

// duration is a time.Duration written as text: positive, or "" for as good as
// absent.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	length, err := time.ParseDuration(string(text))
	if err == nil && length <= 0 {
		err = errors.New("must be positive")
	}
	*d = duration(length)
	return err
}

func (d duration) MarshalText() ([]byte, error) {
	return []byte(time.Duration(d).String()), nil
}

// noun says what a value of the type is, to an operator.
func noun(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[duration]():
		return "a duration such as 90s or 15m"
	case reflect.TypeFor[slog.Level]():
		return "debug, info, warn or error"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return noun(t.Elem())
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "a string"
}
