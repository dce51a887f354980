package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	deadline := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		body string
		want Job
	}{
		"the least": {
			`{"model":"m","converse":{}}`,
			Job{Model: "m", Kind: Converse, Request: json.RawMessage(`{}`)},
		},
		"everything": {
			`{"id":"order-8412","run":"nightly-2026-11-22","model":"sonnet","converse":{"messages":[]},` +
				`"fallback":["haiku","nova"],"deadline":"2026-11-23T06:00:00Z","metadata":{"customer":"42"}}`,
			Job{
				ID: "order-8412", Run: "nightly-2026-11-22", Model: "sonnet", Kind: Converse,
				Request:  json.RawMessage(`{"messages":[]}`),
				Fallback: []string{"haiku", "nova"}, Deadline: deadline,
				Metadata: map[string]string{"customer": "42"},
			},
		},
		"request byte for byte": {
			" { \"invoke\" :\n{ \"a\" : 1.0e+2 ,\"<b>\":\"\\u0041\", \"a\":[ ] } , \"model\" : \"m\" } \n",
			Job{Model: "m", Kind: Invoke, Request: json.RawMessage("{ \"a\" : 1.0e+2 ,\"<b>\":\"\\u0041\", \"a\":[ ] }")},
		},
		"no fallback is not an absent one": {
			`{"model":"m","invoke":{},"fallback":[]}`,
			Job{Model: "m", Kind: Invoke, Request: json.RawMessage(`{}`), Fallback: []string{}},
		},
		"escapes": {
			`{"mod\u0065l":"\u006d\/\"\ud83d\ude00","converse":{},"metadata":{"\u00e9":"\n"}}`,
			Job{Model: "m/\"😀", Kind: Converse, Request: json.RawMessage(`{}`), Metadata: map[string]string{"é": "\n"}},
		},
		"pointer": {
			`{"payload":"s3://bucket/prefix/key","id":"a","run":"r"}`,
			Job{ID: "a", Run: "r", Payload: "s3://bucket/prefix/key"},
		},
		"bare pointer": {
			`{"payload":"s3://bucket/key"}`,
			Job{Payload: "s3://bucket/key"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Decode([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("job (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	with := func(field string) string { return `{"model":"m","converse":{},` + field + `}` }
	tests := map[string]struct{ body, want string }{
		"empty":                 {``, `not a JSON object`},
		"not an object":         {`[]`, `not a JSON object`},
		"cut off":               {`{"model":"m"`, `not JSON: ends too early`},
		"cut off in a string":   {`{"model":"m`, `model: not JSON: ends too early`},
		"cut off in an escape":  {`{"model":"m\u00`, `model: not JSON: ends too early`},
		"trailing data":         {`{"model":"m","converse":{}} {}`, `something follows the end at byte 28`},
		"trailing comma":        {`{"model":"m","converse":{},}`, `not JSON: unexpected character at byte 27`},
		"leading comma":         {`{,"model":"m","converse":{}}`, `not JSON: unexpected character at byte 1`},
		"not UTF-8":             {"{\"model\":\"\xff\",\"converse\":{}}", `not UTF-8`},
		"too large":             {strings.Repeat(" ", MaxPayload+1), `too large: 26214401 bytes, at most 26214400`},
		"too deep":              {with(`"metadata":` + strings.Repeat("[", maxDepth)), `metadata: must be an object of strings, is an array`},
		"request too deep":      {`{"model":"m","converse":{"a":` + strings.Repeat("[", maxDepth), `converse: nested deeper than 512 at byte 539`},
		"unknown field":         {with(`"modle":1`), `modle: unknown field`},
		"case":                  {`{"Model":"m","converse":{}}`, `Model: unknown field: case matters, it is model`},
		"long unknown field":    {with(`"` + strings.Repeat("é", 40) + `":1`), strings.Repeat("é", 32) + `...: unknown field`},
		"twice":                 {with(`"model":"m"`), `model: stands twice`},
		"twice by escape":       {with(`"mode\u006c":"m"`), `model: stands twice`},
		"both kinds":            {with(`"invoke":{}`), `invoke: stands beside converse: exactly one of them is wanted`},
		"no kind":               {`{"model":"m"}`, `one of converse and invoke is wanted`},
		"no model":              {`{"converse":{}}`, `model: is missing`},
		"empty model":           {`{"model":"","converse":{}}`, `model: is empty`},
		"null model":            {`{"model":null,"converse":{}}`, `model: must be a string, is null`},
		"request no object":     {`{"model":"m","invoke":"{}"}`, `invoke: must be an object, is a string`},
		"request null":          {`{"model":"m","invoke":null}`, `invoke: must be an object, is null`},
		"request bad":           {`{"model":"m","invoke":{"a":01}}`, `invoke: not JSON: unexpected character at byte 28`},
		"request bad literal":   {`{"model":"m","invoke":{"a":nul}}`, `invoke: not JSON: unexpected character at byte 30`},
		"request control":       {"{\"model\":\"m\",\"invoke\":{\"a\":\"\n\"}}", `invoke: not JSON: unexpected character at byte 28`},
		"empty id":              {with(`"id":""`), `id: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}`},
		"id with a slash":       {with(`"id":"a/b"`), `id: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}`},
		"id a number":           {with(`"id":7`), `id: must be a string, is a number`},
		"run with underscore":   {with(`"run":"_manifest"`), `run: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}`},
		"run of 129":            {with(`"run":"` + strings.Repeat("r", 129) + `"`), `run: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}`},
		"fallback no array":     {with(`"fallback":"haiku"`), `fallback: must be an array of strings, is a string`},
		"fallback null":         {with(`"fallback":null`), `fallback: must be an array of strings, is null`},
		"fallback of numbers":   {with(`"fallback":["a",1]`), `fallback[1]: must be a string, is a number`},
		"fallback empty":        {with(`"fallback":["a",""]`), `fallback[1]: is empty`},
		"fallback comma":        {with(`"fallback":["a",]`), `fallback[1]: not JSON: unexpected character at byte 43`},
		"deadline a date":       {with(`"deadline":"2026-11-23"`), `deadline: must be a time of RFC 3339, like 2026-11-23T06:00:00Z`},
		"deadline loose":        {with(`"deadline":"2026-11-23T6:00:00Z"`), `deadline: must be a time of RFC 3339, like 2026-11-23T06:00:00Z`},
		"deadline with a comma": {with(`"deadline":"2026-11-23T06:00:00,5Z"`), `deadline: must be a time of RFC 3339, like 2026-11-23T06:00:00Z`},
		"deadline's offset":     {with(`"deadline":"2026-11-23T06:00:00+24:00"`), `deadline: must be a time of RFC 3339, like 2026-11-23T06:00:00Z`},
		"deadline zero":         {with(`"deadline":"0001-01-01T00:00:00Z"`), `deadline: must be a time of RFC 3339, like 2026-11-23T06:00:00Z`},
		"deadline a number":     {with(`"deadline":1763877600`), `deadline: must be a string, is a number`},
		"metadata null":         {with(`"metadata":null`), `metadata: must be an object of strings, is null`},
		"metadata number":       {with(`"metadata":{"a":"","customer":42}`), `metadata.customer: must be a string, is a number`},
		"metadata twice":        {with(`"metadata":{"a":"","\u0061":""}`), `metadata.a: stands twice`},
		"pointer and model":     {`{"payload":"s3://b/k","model":"m"}`, `model: stands beside payload: only id and run may`},
		"pointer and request":   {`{"payload":"s3://b/k","invoke":{}}`, `invoke: stands beside payload: only id and run may`},
		"pointer and fallback":  {`{"payload":"s3://b/k","fallback":[]}`, `fallback: stands beside payload: only id and run may`},
		"pointer and deadline":  {`{"payload":"s3://b/k","deadline":"2026-11-23T06:00:00Z"}`, `deadline: stands beside payload: only id and run may`},
		"pointer and metadata":  {`{"payload":"s3://b/k","metadata":{}}`, `metadata: stands beside payload: only id and run may`},
		"pointer elsewhere":     {`{"payload":"https://b/k"}`, `payload: must be s3://bucket/key`},
		"pointer without a key": {`{"payload":"s3://b/"}`, `payload: must be s3://bucket/key`},
		"pointer empty":         {`{"payload":""}`, `payload: must be s3://bucket/key`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Decode([]byte(tt.body))
			if _, ok := errors.AsType[*FieldError](err); !ok {
				t.Fatalf("error %v of type %T, want a *FieldError", err, err)
			}
			if err.Error() != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
			if diff := cmp.Diff(Job{}, got); diff != "" {
				t.Errorf("a job beside an error:\n%s", diff)
			}
		})
	}
}

// The deepest job that is allowed, so that the limit is not lower than it says.
func TestDecodeDepth(t *testing.T) {
	t.Parallel()
	arrays := maxDepth - 2 // the body and the request
	body := `{"model":"m","converse":{"a":` + strings.Repeat("[", arrays) + strings.Repeat("]", arrays) + `}}`
	j, err := Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Encode(); err != nil {
		t.Errorf("encode what was decoded: %v", err)
	}
	j.Request = json.RawMessage(`{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`)
	if _, err := j.Encode(); err == nil {
		t.Error("a request that Decode would refuse was encoded")
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	pointer := Job{ID: "a", Run: "r", Payload: "s3://b/k"}
	for name, tt := range map[string]struct{ object, want string }{
		"same identity":   {`{"id":"a","run":"r","model":"m","converse":{}}`, ""},
		"no identity":     {`{"model":"m","converse":{}}`, ""},
		"another id":      {`{"id":"b","model":"m","converse":{}}`, "id: is not the pointer's"},
		"another run":     {`{"run":"s","model":"m","converse":{}}`, "run: is not the pointer's"},
		"another pointer": {`{"payload":"s3://b/k2"}`, "payload: a pointer stands behind a pointer"},
		"no job":          {`{"model":"m"}`, "one of converse and invoke is wanted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := pointer.Resolve([]byte(tt.object))
			if tt.want != "" {
				if _, ok := errors.AsType[*FieldError](err); !ok || err.Error() != tt.want {
					t.Fatalf("error %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := Job{ID: "a", Run: "r", Model: "m", Kind: Converse, Request: json.RawMessage(`{}`)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("job (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	j := Job{
		ID: "a", Run: "r", Model: "<m>", Kind: Invoke,
		Request:  json.RawMessage("{ \"html\": \"<&>\u2028\", \"n\": 1.00 }"),
		Fallback: []string{}, Deadline: time.Date(2026, 11, 23, 7, 0, 0, 5, time.FixedZone("", 3600)),
		Metadata: map[string]string{"b": "\uFFFF", "a": "\x00"},
	}
	body, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"a","run":"r","model":"\u003cm\u003e","invoke":{ "html": "<&>` + "\u2028" + `", "n": 1.00 },` +
		`"fallback":[],"deadline":"2026-11-23T07:00:00.000000005+01:00","metadata":{"a":"\u0000","b":"\uffff"}}`
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	valid := Job{Model: "m", Kind: Converse, Request: json.RawMessage(`{}`)}
	for name, tt := range map[string]struct {
		change func(*Job)
		want   string
	}{
		"bad id":            {func(j *Job) { j.ID = "_a" }, "id: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"},
		"bad run":           {func(j *Job) { j.Run = "a b" }, "run: must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}"},
		"no model":          {func(j *Job) { j.Model = "" }, "model: is missing"},
		"model not UTF-8":   {func(j *Job) { j.Model = "\xff" }, "model: not UTF-8"},
		"no kind":           {func(j *Job) { j.Kind = "" }, "one of converse and invoke is wanted"},
		"unknown kind":      {func(j *Job) { j.Kind = "chat" }, "one of converse and invoke is wanted"},
		"no request":        {func(j *Job) { j.Request = nil }, "converse: not JSON: ends too early"},
		"request no JSON":   {func(j *Job) { j.Request = json.RawMessage(`{"a"}`) }, "converse: not JSON: unexpected character at byte 4"},
		"request two":       {func(j *Job) { j.Request = json.RawMessage(`{}{}`) }, "converse: something follows the end at byte 2"},
		"request no object": {func(j *Job) { j.Request = json.RawMessage(`[]`) }, "converse: must be an object, is an array"},
		"request for XML":   {func(j *Job) { j.Request = json.RawMessage("{\"a\":\"\uFFFE\"}") }, `converse: holds a character that SQS refuses: escape it as \ufffe`},
		"empty fallback":    {func(j *Job) { j.Fallback = []string{""} }, "fallback[0]: is empty"},
		"deadline too late": {func(j *Job) { j.Deadline = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "deadline: no time of RFC 3339"},
		"metadata bytes":    {func(j *Job) { j.Metadata = map[string]string{"a": "\xff"} }, "metadata.a: not UTF-8"},
		"pointer and model": {func(j *Job) { j.Payload = "s3://b/k" }, "model: stands beside payload: only id and run may"},
		"too large": {func(j *Job) {
			j.Request = json.RawMessage(`{"a":"` + strings.Repeat("a", MaxPayload-8) + `"}`)
		}, "too large: 26214425 bytes, at most 26214400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := valid
			tt.change(&j)
			body, err := j.Encode()
			if _, ok := errors.AsType[*FieldError](err); !ok || err.Error() != tt.want {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if body != nil {
				t.Errorf("%d bytes beside an error", len(body))
			}
		})
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	base := Job{ID: "a", Model: "m", Kind: Converse, Request: json.RawMessage(`{"a":"b c\" d","e":[1,2]}`)}
	digest := base.Digest()
	if len(digest) != 64 {
		t.Errorf("digest %q is no hex SHA-256", digest)
	}
	for name, tt := range map[string]struct {
		change func(*Job)
		same   bool
	}{
		"whitespace":         {func(j *Job) { j.Request = json.RawMessage("\t{ \"a\" : \"b c\\\" d\",\r\n\"e\":[1, 2 ] }\n") }, true},
		"identity":           {func(j *Job) { j.ID, j.Run = "b", "r" }, true},
		"fallback":           {func(j *Job) { j.Fallback = []string{"x"} }, true},
		"space in a string":  {func(j *Job) { j.Request = json.RawMessage(`{"a":"b  c\" d","e":[1,2]}`) }, false},
		"space after \\\"":   {func(j *Job) { j.Request = json.RawMessage(`{"a":"b c\"d","e":[1,2]}`) }, false},
		"spelling of a byte": {func(j *Job) { j.Request = json.RawMessage(`{"a":"b c\u0022 d","e":[1,2]}`) }, false},
		"model":              {func(j *Job) { j.Model = "n" }, false},
		"kind":               {func(j *Job) { j.Kind = Invoke }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := base
			tt.change(&j)
			if same := j.Digest() == digest; same != tt.same {
				t.Errorf("same digest: %t, want %t", same, tt.same)
			}
		})
	}
}

func TestPeek(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]Identity{
		`{"id":"a","run":"r","model":7}`:           {ID: "a", Run: "r"},
		`{"modle":[{"id":"b"}],"id":"a","run":"r"`: {ID: "a", Run: "r"},
		`{"id":"a",oops,"run":"r"}`:                {ID: "a"},
		`{"id":"a/b","run":"r"}`:                   {Run: "r"},
		`{"id":7,"run":"r"}`:                       {Run: "r"},
		`{"id":"a","id":"b","id":"c","run":"r"}`:   {Run: "r"},
		"{\"x\":\"\xff\",\"id\":\"a\"}":            {ID: "a"},
		`[{"id":"a"}]`:                             {},
		`"id"`:                                     {},
		``:                                         {},
	} {
		if got := Peek([]byte(body)); got != want {
			t.Errorf("Peek(%s) = %+v, want %+v", body, got, want)
		}
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	full := Result{
		ID: "a", Run: "r", Status: Succeeded, Model: "m", Route: &Route{Region: "us-east-1", ModelID: "x"},
		Output: json.RawMessage("{ \"html\": \"<&>\", \"n\": 1.00 }"),
		Usage:  &Usage{InputTokens: 1, OutputTokens: 2, QuotaTokens: 11}, Attempts: 1, Receives: 1,
		EnqueuedAt: at, StartedAt: at, FinishedAt: at, Traceparent: "t", Group: "g", Metadata: map[string]string{"k": "v"},
	}
	failed := Result{ID: "a", Status: Failed, Error: &Error{Reason: Rejected, Code: "ValidationException", Message: "\uFFFF"}}
	for name, want := range map[string]Result{"full": full, "failed": failed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := want.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeResult(body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if !bytes.Contains(body, want.Output) {
				t.Errorf("the output does not stand in %s", body)
			}
			if bytes.Contains(body, []byte("\uFFFF")) {
				t.Error("a character that SQS refuses stands in the result")
			}
		})
	}
	if _, err := (Result{ID: "a", Status: Succeeded, Output: json.RawMessage(`{`)}).Encode(); err == nil {
		t.Error("an output that is not JSON was encoded")
	}
	for _, body := range []string{`{`, `{}`, `{"status":"done"}`, `{"status":"failed"} x`} {
		if _, err := DecodeResult([]byte(body)); err == nil {
			t.Errorf("%s was read as a result", body)
		}
	}
	if _, err := DecodeResult([]byte(`{"id":"a","status":"failed","tomorrow":1}`)); err != nil {
		t.Errorf("a field of a newer drainer: %v", err)
	}
}

// FuzzDecode holds that whatever is decoded is JSON, comes back from Encode as
// the same job, and keeps the request's bytes.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"id":"a","run":"r","model":"m","converse":{"messages":[{"role":"user","content":[{"text":"h\u00e9"}]}]},"fallback":["x"],"deadline":"2026-11-23T06:00:00.5+01:00","metadata":{"a":"b"}}`,
		`{"model":"m","invoke":{"a":[1,-2.5e3,true,null]},"fallback":[]}`,
		`{"payload":"s3://b/k","id":"a"}`,
		"{\"model\":\"\uFFFE\",\"invoke\":{}}",
		`{"model":"m","converse":{}} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		j, err := Decode(body)
		if err != nil {
			if _, ok := errors.AsType[*FieldError](err); !ok {
				t.Fatalf("error of type %T", err)
			}
			Peek(body)
			return
		}
		if !json.Valid(body) {
			t.Fatal("decoded what is not JSON")
		}
		if got := Peek(body); got != j.Identity() {
			t.Errorf("Peek found %+v in the body of %+v", got, j.Identity())
		}
		again, err := j.Encode()
		if err != nil {
			if bytes.ContainsAny(j.Request, "\uFFFE\uFFFF") {
				return
			}
			t.Fatalf("encode what was decoded: %v", err)
		}
		if !bytes.Contains(again, j.Request) {
			t.Error("the request's bytes changed")
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if diff := cmp.Diff(j, back); diff != "" {
			t.Errorf("job (-first +second):\n%s", diff)
		}
		if j.Digest() != back.Digest() {
			t.Error("the digest changed")
		}
	})
}

// FuzzEncode holds that whatever Encode takes, Decode reads as the same.
func FuzzEncode(f *testing.F) {
	f.Add("a", "r", "m", true, []byte(`{"a": 1}`), "x", "k", "v", int64(1763877600))
	f.Add("", "", "\uFFFF\u2028<", false, []byte(" {}\n"), "", "", "", int64(0))
	f.Fuzz(func(t *testing.T, id, run, model string, converse bool, request []byte, fallback, key, value string, deadline int64) {
		j := Job{ID: id, Run: run, Model: model, Kind: Invoke, Request: request, Metadata: map[string]string{key: value}}
		if converse {
			j.Kind = Converse
		}
		if fallback != "" {
			j.Fallback = []string{fallback, fallback}
		}
		if deadline != 0 {
			j.Deadline = time.Unix(deadline, 0).UTC()
		}
		body, err := j.Encode()
		if err != nil {
			return
		}
		got, err := Decode(body)
		if err != nil {
			t.Fatalf("decode %q: %v", body, err)
		}
		j.Request = json.RawMessage(bytes.Trim(request, " \t\r\n"))
		if diff := cmp.Diff(j, got); diff != "" {
			t.Errorf("job (-want +got):\n%s", diff)
		}
	})
}

// FuzzScan holds the scanner against encoding/json.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2,{"b":null}],"c":"\u12aF\n"}`, `[]`, `[ ]`, `{ }`, `[1,]`, `{"a":1,}`, `-0.5e-7`, `01`, `.5`, `1.`, `1e`, `"\x"`, "\"\t\"", `tru`, ` 7 `, `7 7`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Count(text, []byte("[")) > 100 || bytes.Count(text, []byte("{")) > 100 {
			return // encoding/json may go deeper
		}
		err := scan(text, MaxPayload, (*scanner).skip)
		if got, want := err == nil, json.Valid(text) && utf8.Valid(text); got != want {
			t.Errorf("scan says %v, encoding/json says %t", err, want)
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	f.Add([]byte(`{"id":"a","run":"r","status":"succeeded","output":{"a": 1},"attempts":1,"error":{"reason":"rejected"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeResult(body)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		if !bytes.Contains(again, r.Output) {
			t.Error("the output's bytes changed")
		}
		back, err := DecodeResult(again)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if back.Status != r.Status || back.Identity() != r.Identity() || !bytes.Equal(back.Output, r.Output) {
			t.Errorf("%+v came back as %+v", r, back)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"id":"order-8412","run":"nightly","model":"sonnet","converse":{"messages":[{"role":"user","content":[{"text":"` +
		strings.Repeat("What is the answer? ", 45) + `"}]}],"inferenceConfig":{"maxTokens":512}}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}
