// Ingress measures a real net/http server under more load than it can serve: which requests
// are answered within their budgets, counted from its scheduled time. The server is a process of
// its own with one processor; the client, open-loop over kept connections, has another. Loads
// are in CPU time of the handlers' work; the CPU for HTTP itself is extra.
//
//	go run ./ingress -quick
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeromicro/go-zero/core/logx"
)

// class is a kind of request.
type class struct {
	path   string
	work   time.Duration
	budget time.Duration
	share  float64 // of the work offered
}

// mixes are the loads to choose from.
var mixes = map[string][]class{
	"reference": {
		{"/short", 50 * time.Microsecond, 20 * time.Millisecond, 0.08},
		{"/medium", 2 * time.Millisecond, 80 * time.Millisecond, 0.52},
		{"/long", 15 * time.Millisecond, 400 * time.Millisecond, 0.40},
	},
	"even": {
		{"/light", 500 * time.Microsecond, 50 * time.Millisecond, 0.5},
		{"/heavy", 5 * time.Millisecond, 100 * time.Millisecond, 0.5},
	},
}

// serverVar makes this program the server: "contender mix".
const serverVar = "HELIX_INGRESS_SERVER"

func main() {
	logx.Disable() // go-zero logs its own CPU time, in every process
	if what := os.Getenv(serverVar); what != "" {
		fail(serve(what))
		return
	}
	fail(run(os.Args[1:]))
}

func fail(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ingress:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("ingress", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "fewer and shorter points: under a minute")
	mix := flags.String("mix", "reference", "which requests: reference or even")
	loads := flags.String("loads", "0.5,0.7,1.5,3,6,10", "work offered, as multiples of what a processor does")
	only := flags.String("only", strings.Join(contenders, ","), "which contenders")
	lasts := flags.Duration("for", 8*time.Second, "how long a point lasts; its first quarter does not count")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *quick {
		*loads, *lasts = "0.7,3", 2*time.Second
	}
	classes, ok := mixes[*mix]
	if !ok {
		return fmt.Errorf("-mix is %q: must be reference or even", *mix)
	}
	if *lasts <= 0 {
		return fmt.Errorf("-for is %v: must be more than 0", *lasts)
	}
	var factors []float64
	for text := range strings.SplitSeq(*loads, ",") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !(f > 0 && f <= 100) {
			return fmt.Errorf("-loads has %q: must be numbers from 0 to 100", text)
		}
		factors = append(factors, f)
	}
	names := strings.Split(*only, ",")
	for _, name := range names {
		if !slices.Contains(contenders, name) {
			return fmt.Errorf("-only has %q: must be of %s", name, strings.Join(contenders, ", "))
		}
	}
	runtime.GOMAXPROCS(1)
	pin(1)
	fmt.Printf("mix %s; in budget / late + late because the client sent late / not answered, %% of all requests; goodput, CPU time of server and client, of a processor each\n", *mix)
	fmt.Printf("%-18s", "contender")
	for _, f := range factors {
		fmt.Printf("%36s", fmt.Sprintf("%gx", f))
	}
	fmt.Println()
	for _, name := range names {
		fmt.Printf("%-18s", name)
		for _, f := range factors {
			r, err := point(name, *mix, classes, f, *lasts)
			if err != nil {
				return err
			}
			fmt.Printf("%36s", r)
		}
		fmt.Println()
	}
	return nil
}

// point measures one contender at one load, with a server process of its own.
func point(name, mix string, classes []class, load float64, lasts time.Duration) (result, error) {
	exe, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serverVar+"="+name+" "+mix, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	in, err := cmd.StdinPipe() // the server ends with it
	if err != nil {
		return result{}, err
	}
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	said := bufio.NewReader(out)
	addr, err := said.ReadString('\n')
	if err == nil {
		start, before := time.Now(), cpuTime()
		r := newClient(strings.TrimSpace(addr), classes, load).run(lasts)
		took := time.Since(start)
		r.client = (cpuTime() - before).Seconds() / took.Seconds()
		err = in.Close()
		taken, bad := said.ReadString('\n')
		cpu, unread := strconv.ParseInt(strings.TrimSpace(taken), 10, 64)
		r.cpu = time.Duration(cpu).Seconds() / took.Seconds()
		return r, errors.Join(err, bad, unread, cmd.Wait())
	}
	return result{}, errors.Join(fmt.Errorf("the server of %s did not start: %w", name, err), in.Close(), cmd.Wait())
}
