package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	fence   = regexp.MustCompile("(?ms)^```(\\w*) *(.*?)\n(.*?)^```$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// pages are all Markdown files of the repository.
func pages(t *testing.T) (found []string) {
	require.NoError(t, filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if entry.IsDir() && path != ".." && path != "../.github" && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func read(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// Every fragment of Go in these pages stands in a test, indentation aside.
func TestCodeIsRun(t *testing.T) {
	code := ""
	for _, file := range []string{"code_test.go", "../example_test.go"} {
		code += unindented(read(t, file))
	}
	for _, page := range []string{"../README.md", "guide.md", "policies.md", "in-your-service.md"} {
		fragments := 0
		for _, block := range fence.FindAllStringSubmatch(read(t, page), -1) {
			if block[1] != "go" || block[2] != "" {
				continue // or a file, which scripts/newcomer compiles
			}
			for part := range strings.SplitSeq(block[3], "...\n") {
				require.Contains(t, code, unindented(part), page)
				fragments++
			}
		}
		require.Positive(t, fragments, page)
	}
}

// unindented has no blank at the beginning of a line, nor beside another: where comments
// stand depends on the lines around them.
func unindented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintln(&b, strings.Join(strings.Fields(line), " "))
	}
	return b.String()
}

// Every link to a file of the repository, or to a heading in one, leads somewhere.
func TestLinks(t *testing.T) {
	links := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", page, m[1])
			if anchor != "" {
				require.Contains(t, anchors(read(t, target)), anchor, "%s links to %s", page, m[1])
			}
		}
	}
	require.Positive(t, links)
}

// anchors are the names of a page's headings, as Markdown viewers make them.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
