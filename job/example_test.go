package job_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluicehq/sluice/job"
)

// An app builds the body of a message and sends it with any SQS client.
func Example() {
	body, err := job.Job{
		ID:       "order-8412",
		Run:      "nightly-2026-11-22",
		Model:    "sonnet",
		Kind:     job.Converse,
		Request:  json.RawMessage(`{"messages":[{"role":"user","content":[{"text":"Hello"}]}],"inferenceConfig":{"maxTokens":512}}`),
		Deadline: time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC),
		Metadata: map[string]string{"customer": "42"},
	}.Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(body))
	// Output:
	// {"id":"order-8412","run":"nightly-2026-11-22","model":"sonnet","converse":{"messages":[{"role":"user","content":[{"text":"Hello"}]}],"inferenceConfig":{"maxTokens":512}},"deadline":"2026-11-23T06:00:00Z","metadata":{"customer":"42"}}
}

// A body that is no job says which field is at fault.
func ExampleDecode() {
	_, err := job.Decode([]byte(`{"model":"sonnet","converse":{},"fallback":["haiku",7]}`))
	fmt.Println(err)
	_, err = job.Decode([]byte(`{"model":"sonnet","converse":{},"meta":{}}`))
	fmt.Println(err)
	// Output:
	// fallback[1]: must be a string, is a number
	// meta: unknown field
}

// Two jobs of one digest ask for the same thing, however their request is laid out.
func ExampleJob_Digest() {
	a := job.Job{Model: "m", Kind: job.Invoke, Request: json.RawMessage(`{"prompt":"Hello"}`)}
	b := job.Job{Model: "m", Kind: job.Invoke, Request: json.RawMessage(`{ "prompt": "Hello" }`)}
	fmt.Println(a.Digest() == b.Digest())
	// Output: true
}

// The result of a job stands under a key made from its identity.
func ExampleIdentity_Key() {
	fmt.Println(job.Identity{Run: "nightly", ID: "order-8412"}.Key())
	fmt.Println(job.Identity{ID: "order-8412"}.Key())
	// Output:
	// nightly/order-8412.json
	// _/order-8412.json
}

// A reader of results gets the output as Bedrock sent it.
func ExampleDecodeResult() {
	r, err := job.DecodeResult([]byte(`{"id":"a","status":"succeeded","attempts":1,"output":{"stopReason":"end_turn"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Status, string(r.Output))
	// Output: succeeded {"stopReason":"end_turn"}
}
