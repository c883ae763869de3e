package config

import "regexp"

var tokenPrefix = regexp.MustCompile(`^(?:glrt-(?:t[1-3]_)?|t[1-3]_|glrtr-|glcbt-|GR[0-9a-fA-F]{7})`)

// ShortToken is the part of a token that may be shown: at most nine characters after its prefix.
func ShortToken(token string) string {
	const length = 9
	token = tokenPrefix.ReplaceAllString(token, "")
	if len(token) > length {
		return token[:length]
	}
	return token
}

// ShortToken is the entry's name in logs, metrics, containers and volumes.
func (r *Runner) ShortToken() string { return ShortToken(r.Token) }

// AuthenticationTokenPrefix marks tokens of runners that were created in GitLab, not registered.
const AuthenticationTokenPrefix = "glrt-"
