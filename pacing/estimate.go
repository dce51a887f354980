package pacing

import "math"

// Size is what can be told about a request before it is sent.
type Size struct {
	Text      int64 // bytes of text that the model reads
	Images    int64 // counted, whatever their bytes
	Documents int64
	Videos    int64
	MaxTokens int64 // the request's own bound on the output, 0 where it has none
	NoOutput  bool  // it has no output tokens: an embedding, an image
}

// Usage is what an invocation consumed, in tokens.
type Usage struct {
	Input, Output, CacheRead, CacheWrite int64
}

// Settlement is what the quota is charged in the end: input, cache writes and
// output times burndown. Cache reads are free.
func (u Usage) Settlement(burndown float64) int64 {
	return u.Input + u.CacheWrite + int64(math.Ceil(float64(u.Output)*burndown))
}

// Read is the input in all, as the reservation counts it: cache reads too.
func (u Usage) Read() int64 { return u.Input + u.CacheRead + u.CacheWrite }

// Charge is what one request will cost, in tokens.
type Charge struct {
	Reserve int64 // input + max_tokens, taken when it starts
	Expect  int64 // the settlement that is expected
	Input   int64 // the input estimate within Reserve
	Doubt   int64 // how far that is off on average
}

const (
	// What a request costs before anything was learned, in tokens. Text: about
	// 3.3 bytes a token, denser than English prose, because an estimate that is
	// too low is throttled and one that is too high is given back.
	textFirst     = 0.3
	imageFirst    = 1_600 // an image at the size to which Claude scales it
	documentFirst = 9_000 // some five pages as text and picture
	videoFirst    = 30_000

	// memory is the weight that an answer keeps when the next one comes. Too
	// small: estimates follow single jobs. Too large: a change of the traffic
	// is learned slowly.
	memory = 0.98

	// textDevFirst and mediaDevFirst are the mean relative errors at the start, from
	// which the ledger makes a margin; a count of images says less than a length
	// does. Too small: the first jobs are throttled where the text is denser, or the
	// images larger. Too large: the first jobs wait.
	textDevFirst  = 0.1
	mediaDevFirst = 0.2

	// tenantPrior is the weight of the route's mean (some 50 answers) with which
	// a new tenant starts. Too small: its first odd job is believed. Too large:
	// a tenant that differs is charged like the others for long.
	tenantPrior = 0.1

	// tenantsMost bounds the tenants that are remembered: two generations of
	// so many. Too small: busy tenants are forgotten and start over from the
	// route's mean. Too large: memory, some 100 bytes each.
	tenantsMost = 1024
)

// Estimator learns from usage what the requests of one route will cost.
type Estimator struct {
	burndown  float64
	maxTokens float64

	route      rates
	young, old map[string]*rates // by tenant; old is the generation before
	images     ratio
	documents  ratio
	videos     ratio
	textDev    ratio // mean relative error of jobs that are text alone
	mediaDev   ratio // the same of those with media
}

// ratio is a decayed mean: so many tokens for so many units.
type ratio struct{ tokens, units float64 }

func (r *ratio) value() float64 { return r.tokens / r.units }

func (r *ratio) learn(tokens, units float64) {
	r.tokens = r.tokens*memory + tokens
	r.units = r.units*memory + units
}

// times returns the same mean with its weight changed.
func (r ratio) times(f float64) ratio { return ratio{r.tokens * f, r.units * f} }

// rates is what differs between tenants.
type rates struct {
	text   ratio // tokens of input for each byte of text
	paid   ratio // input tokens that the quota is charged for each that is read: cache reads are not
	output ratio // tokens of output for each of max_tokens
}

// NewEstimator returns an estimator for a route whose quota is charged burndown
// tokens for each token of output, and defaultMaxTokens where a request has no
// bound of its own.
func NewEstimator(burndown float64, defaultMaxTokens int64) *Estimator {
	return &Estimator{
		burndown:  burndown,
		maxTokens: float64(defaultMaxTokens),
		route: rates{
			text:   ratio{textFirst * 1_000, 1_000},
			paid:   ratio{1, 1},
			output: ratio{1, 1},
		},
		images:    ratio{imageFirst, 1},
		documents: ratio{documentFirst, 1},
		videos:    ratio{videoFirst, 1},
		young:     map[string]*rates{},
		textDev:   ratio{textDevFirst, 1},
		mediaDev:  ratio{mediaDevFirst, 1},
	}
}

// Estimate returns what a request of that size will be charged.
func (e *Estimator) Estimate(s Size, tenant string) Charge {
	r := e.of(tenant)
	media, limit := e.media(s), e.limit(s)
	input := e.text(s, r) + media
	return Charge{
		Reserve: int64(math.Ceil(input + limit)),
		Expect:  int64(math.Ceil(input*r.paid.value() + limit*r.output.value()*e.burndown)),
		Input:   int64(math.Ceil(input)),
		Doubt:   int64(math.Ceil(input * e.dev(media).value())),
	}
}

// Learn takes what a request of that size turned out to consume.
func (e *Estimator) Learn(s Size, tenant string, u Usage) {
	read := float64(u.Read())
	if read <= 0 {
		return
	}
	known := e.of(tenant)
	text, media := e.text(s, known), e.media(s)
	e.dev(media).learn(min(math.Abs(read/max(text+media, 1)-1), 1), 1)

	for _, r := range [...]*rates{&e.route, e.remember(tenant)} {
		if r == nil {
			continue
		}
		if s.Text > 0 && (media == 0 || read < text) { // of text and media, it is this at most
			r.text.learn(read, float64(s.Text))
		}
		r.paid.learn(float64(u.Input+u.CacheWrite), read)
		if limit := e.limit(s); limit > 0 {
			r.output.learn(float64(u.Output), limit)
		}
	}

	// Media are charged what the text does not explain, in proportion to what
	// they were expected to take; a token at least, or they would be free for good.
	if media == 0 {
		return
	}
	scale := max(read-text, 0) / media
	for _, m := range [...]struct {
		kind *ratio
		n    int64
	}{{&e.images, s.Images}, {&e.documents, s.Documents}, {&e.videos, s.Videos}} {
		if m.n > 0 {
			m.kind.learn(max(scale*m.kind.value(), 1)*float64(m.n), float64(m.n))
		}
	}
}

// dev is the mean relative error of jobs with so much for media. Those with an
// image can be off by much more than those without: in one mean, the many small
// errors would hide the few large ones.
func (e *Estimator) dev(media float64) *ratio {
	if media > 0 {
		return &e.mediaDev
	}
	return &e.textDev
}

func (e *Estimator) text(s Size, r *rates) float64 { return float64(s.Text) * r.text.value() }

func (e *Estimator) media(s Size) float64 {
	return float64(s.Images)*e.images.value() + float64(s.Documents)*e.documents.value() + float64(s.Videos)*e.videos.value()
}

// limit is the bound on the output, in tokens.
func (e *Estimator) limit(s Size) float64 {
	switch {
	case s.NoOutput:
		return 0
	case s.MaxTokens > 0:
		return float64(s.MaxTokens)
	}
	return e.maxTokens
}

// of returns the tenant's rates, or the route's for one that is not known.
func (e *Estimator) of(tenant string) *rates {
	if r := e.young[tenant]; r != nil {
		return r
	}
	if r := e.old[tenant]; r != nil {
		return r
	}
	return &e.route
}

// remember returns the tenant's rates to learn into; a new tenant's begin at
// the route's. Jobs without a tenant are learned by the route alone.
func (e *Estimator) remember(tenant string) *rates {
	if tenant == "" {
		return nil
	}
	if r := e.young[tenant]; r != nil {
		return r
	}
	r := e.old[tenant]
	if r == nil {
		r = &rates{
			text:   e.route.text.times(tenantPrior),
			paid:   e.route.paid.times(tenantPrior),
			output: e.route.output.times(tenantPrior),
		}
	}
	if len(e.young) >= tenantsMost {
		e.old, e.young = e.young, map[string]*rates{}
	}
	e.young[tenant] = r
	return r
}
