package googlecloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"google.golang.org/api/compute/v1"
)

const (
	windowsKeysItem = "windows-keys"
	// passwordPort is the serial port on which the agent of Windows answers.
	passwordPort = 4
	// passwordBits is the size of the key that the agent takes.
	passwordBits = 2048
	// passwordLimit bounds the wait for the agent, and passwordPoll is how often it is looked for.
	passwordLimit = 2 * time.Minute
	passwordPoll  = time.Second
)

// passwordRequest is what the agent of Windows finds in the metadata.
type passwordRequest struct {
	UserName string `json:"userName"`
	Modulus  string `json:"modulus"`
	Exponent string `json:"exponent"`
	Email    string `json:"email"`
	ExpireOn string `json:"expireOn"`
}

// passwordAnswer is what it writes to the serial port, one in a line.
type passwordAnswer struct {
	UserName          string `json:"userName"`
	Modulus           string `json:"modulus"`
	PasswordFound     bool   `json:"passwordFound"`
	EncryptedPassword string `json:"encryptedPassword"`
	ErrorMessage      string `json:"errorMessage"`
}

// windowsPassword has the agent of an instance make a password for a user, whom it makes if need be.
func (g *InstanceGroup) windowsPassword(ctx context.Context, zone, instance, user string) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, passwordBits)
	if err != nil {
		return "", fmt.Errorf("making a key for the password of instance %q: %w", instance, err)
	}
	modulus := base64.StdEncoding.EncodeToString(key.N.Bytes())
	request, err := json.Marshal(passwordRequest{
		UserName: user, Modulus: modulus,
		Exponent: base64.StdEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		Email:    user, ExpireOn: g.now().Add(passwordLimit).UTC().Format(time.RFC3339),
	})
	if err != nil {
		return "", fmt.Errorf("asking for the password of instance %q: %w", instance, err)
	}
	err = g.changeMetadata(ctx, zone, instance, func(items []*compute.MetadataItems) []*compute.MetadataItems {
		value := string(request)
		var out []*compute.MetadataItems
		for _, item := range items {
			if item.Key != windowsKeysItem {
				out = append(out, item)
			}
		}
		return append(out, &compute.MetadataItems{Key: windowsKeysItem, Value: &value})
	})
	if err != nil {
		return "", fmt.Errorf("asking for the password of instance %q: %w; allow compute.instances.setMetadata", instance, err)
	}
	answer, err := g.awaitPassword(ctx, zone, instance, modulus)
	if err != nil {
		return "", fmt.Errorf("waiting for the password of instance %q: %w; the image needs Google's guest agent, and the runner compute.instances.getSerialPortOutput", instance, err)
	}
	encrypted, err := base64.StdEncoding.DecodeString(answer.EncryptedPassword)
	if err != nil {
		return "", fmt.Errorf("reading the password of instance %q: %w", instance, err)
	}
	// The agent knows no other hash.
	password, err := rsa.DecryptOAEP(sha1.New(), nil, key, encrypted, nil)
	if err != nil {
		return "", fmt.Errorf("reading the password of instance %q: %w", instance, err)
	}
	return string(password), nil
}

var errNoPassword = fmt.Errorf("no answer within %v", passwordLimit)

// awaitPassword looks for the agent's answer to a request, which it names by the key.
func (g *InstanceGroup) awaitPassword(ctx context.Context, zone, instance, modulus string) (passwordAnswer, error) {
	ctx, stop := context.WithTimeoutCause(ctx, passwordLimit, errNoPassword)
	defer stop()
	var start int64
	for {
		text, next, err := g.calls.serial(ctx, zone, instance, start)
		if ctx.Err() != nil {
			return passwordAnswer{}, context.Cause(ctx)
		}
		if err != nil {
			return passwordAnswer{}, err
		}
		answer, whole, err := findAnswer(text, modulus)
		if answer.PasswordFound || err != nil {
			return answer, err
		}
		if whole > 0 {
			start = next - int64(len(text)-whole)
		}
		select {
		case <-time.After(passwordPoll):
		case <-ctx.Done():
			return passwordAnswer{}, context.Cause(ctx)
		}
	}
}

// findAnswer looks for the agent's answer to a request in what came from the serial port. It also returns the length of
// the lines that are whole: what follows them is read again.
func findAnswer(text, modulus string) (passwordAnswer, int, error) {
	whole := strings.LastIndexByte(text, '\n') + 1
	for line := range strings.Lines(text[:whole]) {
		var answer passwordAnswer
		if json.Unmarshal([]byte(line), &answer) != nil || answer.Modulus != modulus {
			continue
		}
		if !answer.PasswordFound {
			return passwordAnswer{}, whole, errors.New("the agent says: " + answer.ErrorMessage)
		}
		return answer, whole, nil
	}
	return passwordAnswer{}, whole, nil
}
