// Newcomer follows docs/in-your-service.md as a reader does: in an empty folder it makes the
// files that the page shows, runs its commands one after the other in one shell, and compares
// what they print. The library comes from a module proxy made of this checkout.
//
//	go run ./scripts/newcomer
package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	page    = "docs/in-your-service.md"
	module  = "github.com/helixrouter/helix"
	version = "v0.0.1-checkout"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "newcomer:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	_, err = exec.LookPath("prometheus")
	prometheus := err == nil
	if !prometheus && os.Getenv("HELIX_REQUIRE_PROMETHEUS") == "1" {
		return err
	}
	folder, err := os.MkdirTemp("", "newcomer-")
	if err != nil {
		return err
	}
	defer removeAll(folder)
	if err := makeProxy(filepath.Join(folder, "proxy")); err != nil {
		return err
	}
	cache, err := output("go", "env", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return err
	}
	downloaded, proxies, _ := strings.Cut(strings.TrimSpace(cache), "\n")
	script, outputs := compose(blocks(string(text)), prometheus)
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GONOSUMDB="+module, "GOMODCACHE="+filepath.Join(folder, "modules"),
		"GOPROXY=file://"+filepath.Join(folder, "proxy")+",file://"+filepath.Join(downloaded, "cache/download")+","+proxies)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &out), os.Stderr
	cmd.WaitDelay = 10 * time.Second // for what was left running
	if err := cmd.Run(); err != nil {
		return err
	}
	return compare(out.String(), outputs)
}

// block is one fenced block of the page.
type block struct{ language, name, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)(?: (\\S+))?\n(.*?)^```$")

func blocks(text string) (found []block) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		found = append(found, block{m[1], m[2], m[3]})
	}
	return found
}

// mark is printed before each block of commands, to tell their outputs apart.
const mark = "== "

// compose makes one script of the commands and files, and says which outputs the blocks
// of commands must have, by number.
func compose(all []block, prometheus bool) (script string, outputs map[int]string) {
	var b strings.Builder
	b.WriteString("set -euo pipefail -m\ntrap 'for job in $(jobs -p); do kill $job 2>/dev/null || true; done' EXIT\n")
	outputs = map[int]string{}
	n, skipped := 0, false
	for _, block := range all {
		switch {
		case block.language == "go" && block.name != "": // others are compiled by docs/code_test.go
			fmt.Fprintf(&b, "cat > %s <<'END OF FILE'\n%sEND OF FILE\n", block.name, block.text)
		case block.language == "sh":
			n++
			if skipped = block.name == "prometheus" && !prometheus; skipped {
				block.text = "echo no prometheus here: skipped\n"
			}
			fmt.Fprintf(&b, "printf '\\n%s%d\\n'\n%s", mark, n, block.text)
		case block.language == "output" && !skipped:
			outputs[n] = block.text
		}
	}
	return b.String(), outputs
}

var number = regexp.MustCompile(`\d+`)

// compare looks for each line of the outputs, numbers aside, among those of its block.
func compare(got string, outputs map[int]string) error {
	for n, want := range outputs {
		_, block, _ := strings.Cut("\n"+got, fmt.Sprintf("\n%s%d\n", mark, n))
		block, _, _ = strings.Cut(block, "\n"+mark)
		for line := range strings.Lines(want) {
			parts := number.Split(strings.TrimSpace(line), -1)
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			if !regexp.MustCompile(strings.Join(parts, `\d+`)).MatchString(block) {
				return fmt.Errorf("the page promises %q after its commands number %d, which printed:\n%s", line, n, block)
			}
		}
	}
	return nil
}

// makeProxy makes a module proxy with this checkout in it, see go help goproxy.
func makeProxy(folder string) error {
	folder = filepath.Join(folder, module, "@v")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	files, err := output("git", "ls-files", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	names := strings.Fields(files)
	var nested []string // modules of their own, which are no part of this one
	for _, name := range names {
		if dir, ok := strings.CutSuffix(name, "/go.mod"); ok {
			nested = append(nested, dir+"/")
		}
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
next:
	for _, name := range names {
		for _, dir := range nested {
			if strings.HasPrefix(name, dir) {
				continue next
			}
		}
		content, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // deleted and not yet committed
		}
		if err != nil {
			return err
		}
		w, err := z.Create(module + "@" + version + "/" + name)
		if err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"list":            []byte(version + "\n"),
		version + ".info": fmt.Appendf(nil, `{"Version":%q,"Time":"2000-01-01T00:00:00Z"}`, version),
		version + ".mod":  mod,
		version + ".zip":  archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w", name, args, err)
	}
	return string(out), nil
}

// removeAll removes a folder with a module cache in it, which is read-only.
func removeAll(folder string) {
	_ = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
	_ = os.RemoveAll(folder)
}
