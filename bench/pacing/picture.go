package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// What is pictured where nothing else is said.
const (
	pictured      = "3a,7e,8a"
	picturedShape = "bucket10"
	picturedPeers = "standard*,adaptive*,rate,double,minute*"
)

// Colours that can be told apart, on a white page and on a dark one.
var (
	ink     = color.NRGBA{0x6e, 0x77, 0x81, 0xff} // text, axes
	colours = []color.NRGBA{
		{0x2f, 0x81, 0xf7, 0xff}, // ours
		{0xe5, 0x53, 0x4b, 0xff},
		{0xd9, 0x77, 0x06, 0xff},
		{0x2d, 0xa4, 0x4e, 0xff},
		{0xa3, 0x71, 0xf7, 0xff},
		{0xd6, 0x51, 0x9f, 0xff},
	}
)

const (
	width, height = 760 * vg.Length(1), 430 * vg.Length(1)
	// legendWidth is the column beside the plots.
	legendWidth = 140 * vg.Length(1)
	// span is what a point is the mean of, and step how far points are apart.
	span, step = time.Minute, 10 * time.Second
)

// draw writes the group's picture: goodput and 429s over time, of all who played.
func (g *group) draw(folder string) error {
	tr := g.tracks[0]
	quota := tr.rate(tr.truth)
	top := panel("% of the quota")
	bottom := panel("429s a minute")
	bottom.X.Label.Text = "minutes"
	bottom.Y.Scale, bottom.Y.Tick.Marker = logarithm{}, decades{}
	legend := plot.NewLegend()
	legend.TextStyle, legend.Top, legend.Left, legend.Padding = words(11), true, true, 4

	add := func(p *plot.Plot, series []float64, per float64, style draw.LineStyle) *plotter.Line {
		line := &plotter.Line{LineStyle: style}
		for at := span; at <= g.length; at += step {
			line.XYs = append(line.XYs, plotter.XY{X: at.Minutes(), Y: sum(series, at-span, at) / per})
		}
		p.Add(line)
		return line
	}
	best := draw.LineStyle{Color: ink, Width: 1.2, Dashes: []vg.Length{4, 3}}
	entries := map[string]*plotter.Line{"omniscient": add(top, tr.series(g.best[0][0]), quota/100, best)}
	// Ours last, on top of the others.
	for i := len(g.runs[0]) - 1; i >= 0; i-- {
		c := g.runs[0][i]
		if c.Pacer == toldName || c.Pacer == shapeName {
			continue
		}
		style := draw.LineStyle{Color: colours[i%len(colours)], Width: 1.2}
		if c.Pacer == sluiceName {
			style.Width = 2.4
		}
		add(bottom, c.Series[0].Throttled, 1, style)
		entries[c.Pacer] = add(top, tr.series(c.Series[0]), quota/100, style)
	}
	for _, name := range append(g.pacers(), "omniscient") {
		if line, ok := entries[name]; ok {
			legend.Add(name, line)
		}
	}
	for _, p := range []*plot.Plot{top, bottom} {
		p.X.Min, p.Y.Min = 0, 0
		p.X.Tick.Marker = evenMinutes{}
	}

	canvas := vgsvg.New(width, height)
	page := draw.New(canvas)
	heading := words(13)
	heading.XAlign, heading.YAlign = text.XLeft, text.YTop
	page.FillText(heading, vg.Point{X: 8, Y: height - 8}, fmt.Sprintf("%s: %s (limiter: %s)", g.id, g.title, g.name))
	plots := draw.Crop(page, 0, -legendWidth, 0, -30)
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: 10, PadTop: 2, PadBottom: 2, PadLeft: 4}
	for i, row := range plot.Align([][]*plot.Plot{{top}, {bottom}}, tiles, plots) {
		[]*plot.Plot{top, bottom}[i].Draw(row[0])
	}
	legend.Draw(draw.Crop(page, width-legendWidth, -8, 0, -34))

	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return err
	}
	// The font that was measured is on few machines; one as wide is on all.
	svg := bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	return os.WriteFile(filepath.Join(folder, g.id+".svg"), svg, 0o644)
}

// panel is a plot without a background, whatever page it will be on.
func panel(label string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Y.Label.Text = label
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = ink, ink
		axis.Label.TextStyle = turned(words(11), axis.Label.TextStyle)
		axis.Tick.Label = turned(words(10), axis.Tick.Label)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color = color.NRGBA{ink.R, ink.G, ink.B, 0x50}
	p.Add(grid)
	return p
}

// words is how text is written, in points.
func words(size vg.Length) text.Style {
	return text.Style{Color: ink, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}, Handler: plot.DefaultTextHandler}
}

// turned keeps the place that the plot gave to a text.
func turned(s, was text.Style) text.Style {
	s.Rotation, s.XAlign, s.YAlign = was.Rotation, was.XAlign, was.YAlign
	return s
}

// logarithm shows none, a few and thousands in one picture.
type logarithm struct{}

func (logarithm) Normalize(least, most, x float64) float64 {
	return (math.Log1p(x) - math.Log1p(least)) / (math.Log1p(most) - math.Log1p(least))
}

// evenMinutes marks 0, 2, 4, ...
type evenMinutes struct{}

func (evenMinutes) Ticks(_, most float64) (ticks []plot.Tick) {
	for v := 0.0; v <= most; v += 2 {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return ticks
}

// decades marks 0, 1, 10, ...
type decades struct{}

func (decades) Ticks(_, most float64) (ticks []plot.Tick) {
	ticks = append(ticks, plot.Tick{Value: 0, Label: "0"})
	for v := 1.0; v <= most; v *= 10 {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return ticks
}
