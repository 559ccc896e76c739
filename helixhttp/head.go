package helixhttp

import "bytes"

// head describes a request with a complete head.
type head struct {
	route     []byte // method, a space and the path: the beginning of the request line
	method    int    // bytes of route that are the method
	host      []byte
	size      int   // bytes of the head, the empty line included
	body      int64 // bytes that follow it
	refusable bool  // a refusal of it depends on its kind only
}

func (h *head) path() []byte { return h.route[h.method+1:] }

// reading is the result of parsing the data of a connection.
type reading uint8

const (
	partial reading = iota // the head is incomplete
	whole
	opaque // left to net/http, with all that follows
)

var emptyLine = []byte("\r\n\r\n")

// readHead reads the head at the beginning of data, which is not empty. It understands less
// of HTTP than net/http does, on purpose: anything that both could parse differently, such as
// the end of a line or of the body, is opaque. So are requests after which the connection
// does not continue as usual, and bodies without a length.
func readHead(data []byte) (h head, r reading) {
	if c := data[0]; c < 'A' || c > 'Z' {
		return h, opaque // TLS, or an empty line, which net/http sometimes skips
	}
	end := bytes.Index(data, emptyLine)
	if end < 0 {
		return h, partial
	}
	h.size = end + len(emptyLine)
	line, rest := cutLine(data[:end+2])
	if !h.readRequestLine(line) {
		return h, opaque
	}
	hosts, lengths := 0, 0
	for len(rest) > 0 {
		line, rest = cutLine(rest)
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isAll(line[:colon], inToken) || !isAll(line[colon+1:], inValue) {
			return h, opaque
		}
		name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
		switch {
		case named(name, "host"):
			hosts++
			h.host = value
		case named(name, "content-length"):
			lengths++
			if h.body = digits(value); h.body < 0 {
				return h, opaque
			}
		case named(name, "connection"):
			if !named(value, "keep-alive") {
				return h, opaque
			}
		case named(name, "transfer-encoding"), named(name, "upgrade"), named(name, "expect"):
			return h, opaque
		}
	}
	if lengths > 1 {
		return h, opaque
	}
	h.refusable = h.refusable && hosts == 1 && isAll(h.host, inHost)
	return h, whole
}

// readRequestLine reads "GET /path?query HTTP/1.1", and returns false for any other form.
func (h *head) readRequestLine(line []byte) bool {
	target, ok := bytes.CutSuffix(line, []byte(" HTTP/1.1"))
	h.method = bytes.IndexByte(target, ' ')
	if !ok || h.method <= 0 || !isAll(target[:h.method], inMethod) || !isAll(target[h.method+1:], inTarget) {
		return false
	}
	method := string(target[:h.method])
	if method == "CONNECT" || method == "PRI" {
		return false
	}
	h.route = target
	if query := bytes.IndexByte(target, '?'); query >= 0 {
		h.route = target[:query]
	}
	path := h.path()
	// The answer to HEAD has no body; paths that a mux cleans first have another pattern.
	h.refusable = method != "HEAD" && len(path) > 0 && path[0] == '/' && isAll(path, inPath) &&
		!bytes.Contains(path, []byte("//")) && !bytes.Contains(path, []byte("/."))
	return true
}

// cutLine cuts at the first CR, which is followed by LF if the line is valid: neither may be
// in any part of one.
func cutLine(data []byte) (line, rest []byte) {
	cr := bytes.IndexByte(data, '\r')
	if cr < 0 || cr+1 >= len(data) || data[cr+1] != '\n' {
		return nil, data // no line is empty, so it is found to be opaque
	}
	return data[:cr], data[cr+2:]
}

// named reports whether name equals of, which is in lower case, under ASCII case folding.
func named(name []byte, of string) bool {
	if len(name) != len(of) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != of[i] {
			return false
		}
	}
	return true
}

// digits returns the number in v, or -1 if it is none or too large.
func digits(v []byte) int64 {
	if len(v) == 0 || len(v) > 15 {
		return -1
	}
	n := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// Classes of bytes, as the bits of classOf.
const (
	inMethod = 1 << iota
	inTarget // what can be seen of ASCII
	inPath   // what needs no escape
	inToken
	inValue
	inHost
)

// classOf is the classes that each byte is in.
var classOf = func() (of [256]uint8) {
	for c := range 256 {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		add := func(class uint8, is bool) {
			if is {
				of[c] |= class
			}
		}
		add(inMethod, 'A' <= c && c <= 'Z')
		add(inTarget, '!' <= c && c <= '~')
		add(inPath, letter || digit || c > 0 && c < 128 && bytes.IndexByte([]byte("/-._~!$&'()*+,;=:@"), byte(c)) >= 0)
		add(inToken, letter || digit || c > 0 && c < 128 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0)
		add(inValue, c == '\t' || c >= ' ' && c != 0x7f)
		add(inHost, letter || digit || c > 0 && c < 128 && bytes.IndexByte([]byte("-._~:[]"), byte(c)) >= 0)
	}
	return of
}()

// isAll reports whether all bytes of v are in the class.
func isAll(v []byte, class uint8) bool {
	for _, c := range v {
		if classOf[c]&class == 0 {
			return false
		}
	}
	return true
}
