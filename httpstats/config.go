package httpstats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/helixrouter/helix"
)

func (h *Handler) serveConfig(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, h.router.Config())
}

const maxPatch = 64 << 10 // bytes

// patchConfig changes the fields that the body names, all of them or none, and
// answers with the configuration in force.
func (h *Handler) patchConfig(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(w, true, http.StatusUnsupportedMediaType, failure{Error: "the body must be application/json"})
		return
	}
	// A body that never ends would hold the connection. If a middleware hides deadlines,
	// the server's ReadTimeout applies.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.options.bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPatch))
	if err != nil {
		code, bad := http.StatusBadRequest, failure{Error: "the body could not be read"}
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			code, bad.Error = http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", tooLarge.Limit)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			code, bad.Error = http.StatusRequestTimeout, fmt.Sprintf("the body did not come within %v", h.options.bodyTimeout)
			w.Header().Set("Connection", "close")
		}
		fail(w, true, code, bad)
		return
	}
	if bad := applyPatch(h.router, body); bad != nil {
		fail(w, true, http.StatusBadRequest, *bad)
		return
	}
	h.serveConfig(w, r)
}

// applyPatch updates r's configuration with a JSON object of fields.
func applyPatch(r *helix.Router, body []byte) *failure {
	fields, bad := parseFields(body)
	if bad != nil {
		return bad
	}
	var parse error
	change := func(c *helix.RouterConfig) {
		// On an error c is unchanged.
		parse = setFields(c, fields)
	}
	if bad := checkFields(r.Config(), fields); bad != nil {
		return bad
	}
	err := r.Update(change)
	if parse != nil {
		err = parse
	}
	if err == nil {
		return nil
	}
	return patchFailure(err, fields)
}

// parseFields reads one JSON object with unique names and without null values: encoding/json
// would take the last of two equal names, and ignore null.
func parseFields(body []byte) (map[string]json.RawMessage, *failure) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, &failure{Error: "the body must be one JSON object: " + err.Error()}
	}
	if fields == nil {
		return nil, &failure{Error: "the body must be one JSON object: null"}
	}
	seen := make(map[string]bool, len(fields))
	dec := json.NewDecoder(bytes.NewReader(body)) // the body is valid
	_, _ = dec.Token()
	for dec.More() {
		name, _ := dec.Token()
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, &failure{Error: err.Error()}
		}
		field := name.(string)
		switch {
		case seen[field]:
			return nil, &failure{Error: fmt.Sprintf("the body has the field %.100q twice", field), Field: shorten(field), Value: shown(value)}
		case string(value) == "null":
			return nil, &failure{Error: fmt.Sprintf("%.100s: must not be null; leave it out to keep its value", field), Field: shorten(field)}
		}
		seen[field] = true
	}
	return fields, nil
}

// setFields sets those fields of c, or none.
func setFields(c *helix.RouterConfig, fields map[string]json.RawMessage) error {
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, c)
}

// checkFields refuses names that the configuration does not have. The decoder of the
// configuration does too, but ignores case.
func checkFields(c helix.RouterConfig, fields map[string]json.RawMessage) *failure {
	known, err := configFields(c)
	if err != nil {
		return &failure{Error: err.Error()}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, ok := known[name]; !ok {
			return &failure{
				Error: fmt.Sprintf("there is no field %.100q", name),
				Field: shorten(name), Value: shown(fields[name]),
			}
		}
	}
	return nil
}

// configFields returns the configuration's JSON form by field.
func configFields(c helix.RouterConfig) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	return fields, json.Unmarshal(text, &fields)
}

// jsonField returns the name of a field of helix.RouterConfig in its JSON form; "" if it has
// none. Errors name a field as in Go, or as in JSON.
func jsonField(field string) string {
	name := strings.TrimPrefix(field, "RouterConfig.")
	for _, f := range helix.ConfigFields() {
		if f.Name == name || f.JSON == name {
			return f.JSON
		}
	}
	return ""
}

// patchFailure returns the invalid field of the request and its value, as the client wrote
// them.
func patchFailure(err error, fields map[string]json.RawMessage) *failure {
	bad := &failure{Error: err.Error()}
	var field *helix.FieldError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &field):
		bad.Field = jsonField(field.Field)
		bad.Value = shown(fields[bad.Field])
		bad.Error = fmt.Sprintf("%s: must be %s", bad.Field, field.Allowed)
		if bad.Field == "" || bad.Value == nil { // one that the request did not name
			bad.Value = fmt.Sprint(field.Value)
			bad.Error = err.Error()
		}
	case errors.As(err, &kind):
		bad.Field = kind.Field
		bad.Value = shown(fields[kind.Field])
		bad.Error = fmt.Sprintf("%s: must be of type %s, not %s", kind.Field, kind.Type, kind.Value)
	}
	return bad
}

const maxShown = 256 // bytes of a value that an error repeats

// shown returns a JSON value for an error's body: nil if there is none; text for a number that
// JSON parsers cannot represent; only the start of a long value, as text.
func shown(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	var readable any
	if len(raw) > maxShown || json.Unmarshal(raw, &readable) != nil {
		return shorten(string(raw))
	}
	return raw
}

func shorten(s string) string {
	if len(s) > maxShown {
		return s[:maxShown] + "…"
	}
	return s
}
