package statuspage

import (
	"crypto/sha256"
	_ "embed" // the parts of the page
	"encoding/base64"
	"fmt"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// page is the one document that is served, with the policy that lets nothing else in.
type page struct {
	html   []byte
	policy string
}

// assemble puts the parts into one document.
func assemble() page {
	html := strings.NewReplacer("/*style*/", pageStyle, "/*script*/", pageScript).Replace(pageHTML)
	return page{html: []byte(html), policy: fmt.Sprintf(
		"default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		digest(pageScript), digest(pageStyle))}
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
