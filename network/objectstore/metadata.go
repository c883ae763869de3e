package objectstore

import (
	"mime"
	"strings"
)

// longestMetadata keeps metadata well below the least limit of the services, 2 KiB for everything.
const longestMetadata = 1 << 10

// keyMetadata is the metadata of an archive whose cache key is key.
func keyMetadata(key string) map[string]string {
	// Headers lose runs of blanks on their way, and signatures do not survive that.
	value := strings.Join(strings.Fields(key), " ")
	value = mime.BEncoding.Encode("utf-8", value)
	if value == "" || len(value) > longestMetadata {
		return nil
	}
	return map[string]string{"cachekey": value}
}
