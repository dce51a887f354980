package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/sluicehq/sluice/job"
)

// work is a kind of job: what its requests look like, and what they turn out to
// cost. Ranges are uniform.
type work struct {
	input     [2]float64 // tokens of text
	log       bool       // input is log-uniform
	maxTokens int64
	output    [2]float64 // tokens
	overasked bool       // output is max_tokens divided by that range
	seconds   [2]float64 // from admission to answer
	tenants   []float64  // tokens for each byte by tenant; none: perByte
	images    float64    // part of the jobs that come with an image
	oversize  float64    // part of the jobs that reserve huge tokens of input
	huge      float64
}

// perByte is how many tokens a byte of text costs where nothing else is said:
// four bytes a token, as AWS's rule of thumb for English has it, while pacing
// starts with an estimate for denser text.
const perByte = 0.25

// The work of pacing.md.
var (
	short  = work{input: [2]float64{100, 300}, maxTokens: 64, output: [2]float64{16, 64}, seconds: [2]float64{0.5, 2}}
	honest = work{input: [2]float64{500, 3_000}, maxTokens: 500, output: [2]float64{450, 500}, seconds: [2]float64{2, 6}}
	over   = work{input: [2]float64{200, 1_500}, maxTokens: 4_096, output: [2]float64{5, 20}, overasked: true, seconds: [2]float64{5, 30}}
	burn   = work{input: [2]float64{300, 3_000}, maxTokens: 1_000, output: [2]float64{300, 900}, seconds: [2]float64{3, 15}}
	mixed  = work{input: [2]float64{100, 100_000}, log: true, maxTokens: 500, output: [2]float64{100, 400}, seconds: [2]float64{1, 10}}
	// Text of which the first estimate is wrong.
	dense   = work{input: [2]float64{500, 6_000}, maxTokens: 500, output: [2]float64{300, 500}, seconds: [2]float64{2, 6}, tenants: []float64{0.39}}
	unalike = work{input: [2]float64{500, 6_000}, maxTokens: 500, output: [2]float64{300, 500}, seconds: [2]float64{2, 6},
		tenants: []float64{0.175, 0.22, 0.28, 0.39}, images: 0.2}
	// Some are larger than a minute of 60,000 tokens: one in 150 comes less often
	// than each ten minutes, in which Sluice grants one whole minute.
	oversize = work{input: [2]float64{100, 20_000}, log: true, maxTokens: 500, output: [2]float64{100, 400}, seconds: [2]float64{1, 10}, oversize: 1.0 / 150, huge: 75_000}
)

// truth is one job as only the bench, the simulator and the bound know it.
type truth struct {
	stream    int
	index     int
	input     int64 // tokens, images included
	output    int64
	maxTokens int64
	lasts     time.Duration
	bytes     int
	image     bool
	tenant    string
}

func (t truth) reserve() int64 { return t.input + t.maxTokens }

func (t truth) settled(burndown float64) int64 {
	return t.input + int64(math.Round(float64(t.output)*burndown))
}

// source draws the jobs of a kind: the same ones for each seed.
type source struct {
	work
	random *rand.Rand
	next   int
}

func newSource(w work, seed, stream uint64) *source {
	return &source{work: w, random: rand.New(rand.NewPCG(seed, 1000+stream))}
}

func (s *source) between(v [2]float64) float64 { return v[0] + s.random.Float64()*(v[1]-v[0]) }

func (s *source) job() truth {
	t := truth{index: s.next, maxTokens: s.maxTokens}
	s.next++
	input := s.between(s.input)
	if s.log {
		input = math.Exp(s.between([2]float64{math.Log(s.input[0]), math.Log(s.input[1])}))
	}
	if s.oversize > 0 && s.random.Float64() < s.oversize {
		input = s.huge
	}
	output := s.between(s.output)
	if s.overasked {
		output = float64(s.maxTokens) / output
	}
	density := perByte
	if n := len(s.tenants); n > 0 {
		i := t.index % n
		density, t.tenant = s.tenants[i], "tenant-"+strconv.Itoa(i)
	}
	density *= 1 + 0.01*s.random.NormFloat64()
	t.bytes = int(input / density)
	if s.images > 0 && s.random.Float64() < s.images {
		t.image = true
		input += 800 + 1_000*s.random.Float64() // smaller than pacing's first estimate of an image
	}
	t.input, t.output = int64(input), int64(output)
	t.lasts = time.Duration(s.between(s.seconds) * float64(time.Second)).Round(time.Microsecond)
	return t
}

// mean is what a job of the kind settles, in tokens, roughly.
func (w work) mean(burndown float64) float64 {
	s := newSource(w, 1, 0)
	var sum float64
	const n = 2_000
	for range n {
		sum += float64(s.job().settled(burndown))
	}
	return sum / n
}

// text is the prompt of a job: its markers tell the simulator what will become
// of it, and it is as long as its tokens ask for.
func (t truth) text() string {
	text := fmt.Sprintf("#%d-%d# [[sim:input=%d]][[sim:output=%d]][[sim:latency=%s]] ", t.stream, t.index, t.input, t.output, t.lasts)
	return text + strings.Repeat("w", max(0, t.bytes-len(text)))
}

// request is the job's Converse body.
func (t truth) request() json.RawMessage {
	image := ""
	if t.image {
		image = `{"image":{"format":"png","source":{"bytes":"AAAA"}}},`
	}
	return json.RawMessage(fmt.Sprintf(`{"messages":[{"role":"user","content":[%s{"text":"%s"}]}],"inferenceConfig":{"maxTokens":%d}}`, image, t.text(), t.maxTokens))
}

// markOf reads back which job a body is of; a negative stream is of none.
func markOf(body []byte) (stream, index int) {
	_, rest, _ := bytes.Cut(body, []byte("#"))
	mark, _, _ := bytes.Cut(rest[:min(len(rest), 32)], []byte("#"))
	first, second, _ := strings.Cut(string(mark), "-")
	stream, err := strconv.Atoi(first)
	index, err2 := strconv.Atoi(second)
	if err != nil || err2 != nil {
		return -1, -1
	}
	return stream, index
}

// message is the job as an SQS body.
func (t truth) message(model string) (string, error) {
	id := fmt.Sprintf("%d-%d", t.stream, t.index)
	j := job.Job{ID: id, Run: "bench", Model: model, Kind: job.Converse, Request: t.request()}
	body, err := j.Encode()
	return string(body), err
}
