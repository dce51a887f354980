package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluicehq/sluice/job"
)

// demoRun groups the demo's jobs: their results stand under this name.
const demoRun = "demo"

// demoJob is one message of the demo, and how the job in it must end.
type demoJob struct {
	id     string
	body   []byte // as it stands on the queue
	direct bool   // sent past enqueue, which would refuse it
	twice  bool   // sent once more, as SQS may deliver it
	want   ending

	model  string
	tokens float64 // of its model's quota, roughly
}

// ending is how a job ends.
type ending struct {
	status job.Status // of its result; "" for none, where nobody could be waiting for it
	reason job.Reason // of what is no success
	buried bool       // it lies on the dead-letter queue, too
}

var succeeds = ending{status: job.Succeeded}

// demoJobs makes n jobs that can be answered, of four kinds, and a few that
// cannot. The same seed makes the same jobs.
func demoJobs(n int, seed uint64) []demoJob {
	g := generator{rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range n {
		switch i % 20 {
		case 0, 1, 2, 3, 4, 5:
			g.converse("sonnet", succeeds, g.prose(), nil)
		case 6, 7, 8, 9:
			g.invoke(g.prose())
		case 10, 11, 12, 13, 14:
			g.converse("nova", succeeds, g.prose(), nil)
		default:
			g.embed(g.prose())
		}
	}
	g.large()

	// What Bedrock rejects is the request's fault, and is not tried again.
	for range 3 {
		g.converse("sonnet", ending{status: job.Failed, reason: job.Rejected}, "[[sim:reject]]", nil)
	}
	g.converse("sonnet", ending{status: job.Expired, reason: job.DeadlinePast}, g.prose(), func(j *job.Job) {
		j.Deadline = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	})
	g.converse("sonnet-99", ending{status: job.Failed, reason: job.UnknownModel, buried: true}, g.prose(), nil)
	malformed := ending{status: job.Failed, reason: job.Malformed, buried: true}
	g.malformed(malformed, `{"id": %q, "run": "demo", "modle": "sonnet", "converse": {"messages": []}}`)
	g.malformed(malformed, `{"id": %q, "run": "demo", "model": "sonnet", "converse": {}, "invoke": {}}`)
	malformed.status = "" // its id can't be read
	g.malformed(malformed, `{"job": %q`)

	g.rng.Shuffle(len(g.jobs), func(i, j int) { g.jobs[i], g.jobs[j] = g.jobs[j], g.jobs[i] })
	for i := range 5 { // twice on the queue: one result, paid once
		g.jobs[i].twice = !g.jobs[i].direct
	}
	return g.jobs
}

type generator struct {
	rng  *rand.Rand
	jobs []demoJob
}

// object is a JSON object.
type object map[string]any

// converse adds a job for the Converse API.
func (g *generator) converse(model string, want ending, text string, change func(*job.Job)) {
	id := g.id(model)
	bound := 100 * (1 + g.rng.IntN(4))
	g.add(want, change, text, bound, job.Job{ID: id, Model: model, Kind: job.Converse, Request: encode(object{
		"messages":        []object{user(object{"text": "Ticket " + id + ". " + text})},
		"inferenceConfig": object{"maxTokens": bound},
	})})
}

// invoke adds a job for InvokeModel, in the form of Anthropic's models.
func (g *generator) invoke(text string) {
	id := g.id("sonnet")
	bound := 100 * (1 + g.rng.IntN(4))
	g.add(succeeds, nil, text, bound, job.Job{ID: id, Model: "sonnet", Kind: job.Invoke, Request: encode(object{
		"anthropic_version": "bedrock-2023-05-31",
		"max_tokens":        bound,
		"messages":          []object{{"role": "user", "content": "Ticket " + id + ". " + text}},
	})})
}

// embed adds a job for a model that has no output tokens.
func (g *generator) embed(text string) {
	id := g.id("embed")
	g.add(succeeds, nil, text, 0, job.Job{ID: id, Model: "embed", Kind: job.Invoke, Request: encode(object{
		"inputText": "Ticket " + id + ". " + text, "dimensions": 256,
	})})
}

// large adds a job that exceeds a message, and so travels as a pointer to an
// object in S3.
func (g *generator) large() {
	scan := make([]byte, job.MaxBody)
	for i := range scan {
		scan[i] = byte(g.rng.Uint32())
	}
	g.add(succeeds, nil, "", 200, job.Job{ID: g.id("sonnet"), Model: "sonnet", Kind: job.Converse, Request: encode(object{
		"messages": []object{user(
			object{"text": "What does the picture show?"},
			object{"image": object{"format": "png", "source": object{"bytes": base64.StdEncoding.EncodeToString(scan)}}},
		)},
		"inferenceConfig": object{"maxTokens": 200},
	})})
}

// malformed adds a message that is no job.
func (g *generator) malformed(want ending, format string) {
	id := g.id("broken")
	g.jobs = append(g.jobs, demoJob{id: id, body: fmt.Appendf(nil, format, id), direct: true, want: want})
}

func (g *generator) add(want ending, change func(*job.Job), text string, bound int, j job.Job) {
	j.Run = demoRun
	if change != nil {
		change(&j)
	}
	body, err := j.Encode()
	if err != nil {
		panic(fmt.Sprintf("demo job %s: %v", j.ID, err)) // the generator is wrong
	}
	tokens := float64(len(text)) / 4
	if j.Model == "sonnet" {
		tokens += demoBurndown * float64(bound) * demoOutput
	} else {
		tokens += float64(bound) * demoOutput
	}
	g.jobs = append(g.jobs, demoJob{id: j.ID, body: body, want: want, model: j.Model, tokens: tokens})
}

// id names the next job.
func (g *generator) id(kind string) string { return fmt.Sprintf("%s-%04d", kind, len(g.jobs)+1) }

// prose is what a customer wrote: 20 to 200 words of it.
func (g *generator) prose() string {
	words := strings.Fields(`order invoice parcel refund please since days without answer the a my your account
		address was is not delivered charged twice again still waiting for support and then nothing thanks`)
	var text strings.Builder
	text.WriteString("Summarise for the support engineer:")
	for range 20 + g.rng.IntN(181) {
		text.WriteByte(' ')
		text.WriteString(words[g.rng.IntN(len(words))])
	}
	return text.String()
}

func user(content ...object) object { return object{"role": "user", "content": content} }

func encode(v any) json.RawMessage {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // objects of strings and numbers
	}
	return body
}
