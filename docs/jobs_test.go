package docs_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/job"
)

// jobs.md is what others write programs by.
func TestJobsPage(t *testing.T) {
	t.Parallel()
	section := map[string]string{}
	for part := range strings.SplitSeq("\n"+read(t, "jobs.md"), "\n## ") {
		title, text, _ := strings.Cut(part, "\n")
		section[title] = text
	}
	for title, want := range map[string][]string{
		"A result": fieldsOf(reflect.TypeFor[job.Result](), ""),
		"Reasons":  slices.Concat(reasons(), fieldsOf(reflect.TypeFor[job.Trail](), "")),
	} {
		if diff := cmp.Diff(want, rows(section[title])); diff != "" {
			t.Errorf("%s (-code +page):\n%s", title, diff)
		}
	}

	documented := rows(section["A job"])
	for _, row := range documented {
		name, kind, _ := strings.Cut(row, " ")
		_, err := job.Decode([]byte(`{"` + name + `":0}`))
		if want := regexp.MustCompile(`^` + name + `: must be an? ` + kind + `, is a number$`); err == nil || !want.MatchString(err.Error()) {
			t.Errorf("%s is no %s to the codec: %v", name, kind, err)
		}
	}
	// converse and invoke are the Kind with its Request.
	if want := reflect.TypeFor[job.Job]().NumField(); len(documented) != want {
		t.Errorf("the fields of a job are %q, and it has %d", documented, want)
	}

	for _, text := range blocks(section["A job"]) {
		if _, err := job.Decode([]byte(text)); err != nil {
			t.Errorf("%v:\n%s", err, text)
		}
	}
	for _, text := range blocks(section["A result"]) {
		if _, err := job.DecodeResult([]byte(text)); err != nil {
			t.Errorf("%v:\n%s", err, text)
		}
		strictly(t, text, new(job.Result))
	}
	for _, text := range blocks(section["Reasons"]) {
		strictly(t, text, new(job.Trail))
	}
	for title, want := range map[string]int{"A job": 2, "A result": 2, "Reasons": 1} {
		if n := len(blocks(section[title])); n != want {
			t.Errorf("%d examples in %s, want %d", n, title, want)
		}
	}
}

// blocks are the examples in a text.
func blocks(text string) (found []string) {
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// rows are the first columns of the tables in a text, of fields with their types.
func rows(text string) (found []string) {
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([^|]*?) ?\\|").FindAllStringSubmatch(text, -1) {
		found = append(found, strings.TrimSpace(m[1]+" "+m[2]))
	}
	return found
}

// strictly reads an example that may have no field that v has not.
func strictly(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Errorf("%v:\n%s", err, text)
	}
}

// fieldsOf are the fields of a struct, and of structs in it, as JSON has them,
// with their types.
func fieldsOf(t reflect.Type, within string) (found []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.Kind() == reflect.Struct && kind != reflect.TypeFor[time.Time]() {
			found = append(found, fieldsOf(kind, name+".")...)
			continue
		}
		found = append(found, within+name+" "+typeName(kind))
	}
	return found
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return "object"
	case t.Kind() == reflect.Map:
		return "object of strings"
	case t.Kind() == reflect.Slice:
		return "array of strings"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "integer"
	}
	return "string" // a time too
}

// reasons are those of the code, each with what is done for it.
func reasons() (found []string) {
	how := map[job.Reason]string{job.Throttled: "", job.Exhausted: "", job.DeadlinePast: " expired"}
	for _, r := range job.Reasons {
		text, special := how[r]
		switch {
		case special:
		case slices.Contains([]job.Reason{job.Payload, job.Malformed, job.UnknownModel, job.Conflict, job.Receives}, r):
			text = " failed, buried"
		default:
			text = " failed"
		}
		found = append(found, string(r)+text)
	}
	return found
}
