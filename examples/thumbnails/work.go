package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"sync"
	"time"
)

// stored are the images, as JPEG, of three sizes; image n is stored[n % len(stored)].
var stored = sync.OnceValue(func() [][]byte {
	var all [][]byte
	for i, side := range []int{160, 320, 480} {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, generate(side, uint64(i)), nil); err != nil {
			panic(err) // it cannot fail: the buffer grows, the image is small
		}
		all = append(all, b.Bytes())
	}
	return all
})

func at[T any](all []T, n int) T { return all[uint(n)%uint(len(all))] }

// pixels is how many the stored image n has.
func pixels(n int) int { side := at([]int{160, 320, 480}, n); return side * side }

// generate makes an image of coloured rings.
func generate(side int, seed uint64) image.Image {
	rng := rand.New(rand.NewPCG(seed, 1))
	cx, cy := rng.IntN(side), rng.IntN(side)
	m := image.NewRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			d := (x-cx)*(x-cx) + (y-cy)*(y-cy)
			m.SetRGBA(x, y, color.RGBA{uint8(d >> 5), uint8(d >> 7), uint8(x ^ y), 255})
		}
	}
	return m
}

const thumbSide = 80

// thumbnail decodes, scales and encodes an image.
func thumbnail(n int) ([]byte, error) {
	m, err := jpeg.Decode(bytes.NewReader(at(stored(), n)))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = jpeg.Encode(&b, scale(m, thumbSide), nil)
	return b.Bytes(), err
}

// scale makes m, which is square, so many pixels wide: each is the mean of those it covers.
func scale(m image.Image, side int) image.Image {
	out := image.NewRGBA(image.Rect(0, 0, side, side))
	from := m.Bounds()
	for y := range side {
		for x := range side {
			var r, g, b, n uint32
			for sy := from.Dy() * y / side; sy < from.Dy()*(y+1)/side; sy++ {
				for sx := from.Dx() * x / side; sx < from.Dx()*(x+1)/side; sx++ {
					pr, pg, pb, _ := m.At(from.Min.X+sx, from.Min.Y+sy).RGBA()
					r, g, b, n = r+pr>>8, g+pg>>8, b+pb>>8, n+1
				}
			}
			n = max(n, 1)
			out.SetRGBA(x, y, color.RGBA{uint8(r / n), uint8(g / n), uint8(b / n), 255})
		}
	}
	return out
}

// The model is a layer of hidden × input weights, 4 MiB. One image has to read all of them
// from memory; a batch reads them once for all its images.
const (
	input  = 1024
	hidden = 1024
)

var weights = sync.OnceValue(func() []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	w := make([]float32, hidden*input)
	for i := range w {
		w[i] = rng.Float32() - 0.5
	}
	return w
})

// features are what the model is given of an image.
func features(n int) []float32 {
	rng := rand.New(rand.NewPCG(uint64(n), 3))
	f := make([]float32, input)
	for i := range f {
		f[i] = rng.Float32() - 0.5
	}
	return f
}

// embedAll is the model's output for each image: matrix times matrix, of which each row of
// weights is used for four images while it is in registers and cache.
func embedAll(images []int) [][]float32 {
	w := weights()
	in, out := make([][]float32, len(images)), make([][]float32, len(images))
	for i, n := range images {
		in[i], out[i] = features(n), make([]float32, hidden)
	}
	for h := range hidden {
		row := w[h*input : (h+1)*input]
		i := 0
		for ; i+4 <= len(in); i += 4 {
			out[i][h], out[i+1][h], out[i+2][h], out[i+3][h] = dot4(row, in[i], in[i+1], in[i+2], in[i+3])
		}
		for ; i < len(in); i++ {
			out[i][h] = dot(row, in[i])
		}
	}
	return out
}

func dot(w, x []float32) (sum float32) {
	x = x[:len(w)]
	for i, v := range w {
		sum += v * x[i]
	}
	return sum
}

// dot4 is dot of four at a time, which do not wait for one another's sums.
func dot4(w, a, b, c, d []float32) (sa, sb, sc, sd float32) {
	a, b, c, d = a[:len(w)], b[:len(w)], c[:len(w)], d[:len(w)]
	for i, v := range w {
		sa += v * a[i]
		sb += v * b[i]
		sc += v * c[i]
		sd += v * d[i]
	}
	return sa, sb, sc, sd
}

// nearest is the place of the largest output, which stands for the most similar image.
func nearest(v []float32) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// connections is how many the database has.
var connections = make(chan struct{}, 64)

// askDatabase is a query that takes 5 ms, once it has a connection.
func askDatabase(ctx context.Context, n int) (string, error) {
	select {
	case connections <- struct{}{}:
		defer func() { <-connections }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	answered := time.NewTimer(5 * time.Millisecond)
	defer answered.Stop()
	select {
	case <-answered.C:
		return fmt.Sprintf("owner %d", n%1000), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
