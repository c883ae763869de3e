package gittest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
)

// LFSFile keeps content on the server and returns the pointer to commit in its place.
func (s *Server) LFSFile(content string) (pointer string) {
	sum := sha256.Sum256([]byte(content))
	id := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[id] = content
	return fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", id, len(content))
}

// serveLFS tells where objects are, and hands them out.
func (s *Server) serveLFS(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		s.mu.Lock()
		content := s.objects[path.Base(r.URL.Path)]
		s.mu.Unlock()
		_, _ = io.WriteString(w, content)
		return
	}
	type link struct {
		Href   string            `json:"href"`
		Header map[string]string `json:"header,omitempty"`
	}
	type object struct {
		ID      string          `json:"oid"`
		Size    int64           `json:"size"`
		Actions map[string]link `json:"actions,omitempty"`
	}
	var batch struct {
		Transfer string   `json:"transfer"`
		Objects  []object `json:"objects"`
	}
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	batch.Transfer = "basic"
	for i, o := range batch.Objects {
		batch.Objects[i].Actions = map[string]link{"download": {
			Href:   s.URL + "/x.git/info/lfs/objects/" + o.ID,
			Header: map[string]string{"Authorization": r.Header.Get("Authorization")},
		}}
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(batch)
}
