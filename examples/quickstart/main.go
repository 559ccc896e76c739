// Quickstart shows each way to submit work to a router.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

func main() {
	ctx := context.Background()
	router, err := helix.New(helix.RouterConfig{})
	check(err)
	defer router.Close()

	// One job, waited for.
	result, err := router.Submit(ctx, helix.Job{Kind: "greet", Budget: time.Second, Run: greet})
	check(err)
	fmt.Println(result.Value)

	// One job, collected later.
	future, err := router.Go(ctx, helix.Job{Kind: "greet", Run: greet})
	check(err)
	result, err = future.Wait(ctx)
	check(err)
	fmt.Println(result.Value)

	// Work declared once, typed, and batched when many ask at the same time.
	upper, err := helix.Register(router, helix.Kind[string, string]{Name: "upper", Batch: upperAll})
	check(err)
	out, err := upper.Submit(ctx, "typed")
	check(err)
	fmt.Println(out)

	// A refusal comes at once, with the reason: this job is late already.
	_, err = upper.SubmitWith(ctx, "late", helix.Hints{Budget: time.Second, Arrived: time.Now().Add(-time.Minute)})
	fmt.Println(errors.Is(err, helix.ErrNotRun), err)
}

func greet(context.Context) (any, error) { return "hello", nil }

func upperAll(_ context.Context, texts []string) ([]string, error) {
	return strings.Split(strings.ToUpper(strings.Join(texts, "\x00")), "\x00"), nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
