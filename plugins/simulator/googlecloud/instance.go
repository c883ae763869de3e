package googlecloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/api/compute/v1"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/faults"
)

// WindowsPassword is the password that the agent of Windows makes here.
const WindowsPassword = "p4ss;word"

func (c *Cloud) getInstance(name string) (any, error) {
	found := c.find(name)
	if found == nil || found.status == "" {
		return nil, faults.Refuse(http.StatusNotFound, "notFound", "the resource 'instances/%s' was not found", name)
	}
	license := "https://www.googleapis.com/compute/v1/projects/debian-cloud/global/licenses/debian-12"
	if c.options.Windows {
		license = "https://www.googleapis.com/compute/v1/projects/windows-cloud/global/licenses/windows-server-2022-dc"
	}
	// The machines have one address: it stands for both.
	return &compute.Instance{
		Name: name, Id: found.number, Status: found.status,
		NetworkInterfaces: []*compute.NetworkInterface{{
			NetworkIP: found.address, AccessConfigs: []*compute.AccessConfig{{NatIP: found.address}},
		}},
		Disks:    []*compute.AttachedDisk{{Boot: true, Licenses: []string{license}, Architecture: "X86_64"}},
		Metadata: &compute.Metadata{Fingerprint: strconv.Itoa(found.generation), Items: found.metadata},
	}, nil
}

func (c *Cloud) setMetadata(ctx context.Context, name string, body []byte) (any, error) {
	found := c.find(name)
	if found == nil || found.status != "RUNNING" {
		return nil, faults.Refuse(http.StatusNotFound, "notFound", "the resource 'instances/%s' was not found", name)
	}
	var asked compute.Metadata
	if err := decode(body, &asked); err != nil {
		return nil, err
	}
	if c.meddle > 0 {
		c.meddle--
		found.generation++
		value := strconv.Itoa(c.meddle)
		found.metadata = append(found.metadata, &compute.MetadataItems{Key: "other-" + value, Value: &value})
	}
	if asked.Fingerprint != strconv.Itoa(found.generation) {
		return nil, faults.Refuse(http.StatusPreconditionFailed, "conditionNotMet", "supplied fingerprint does not match current metadata fingerprint")
	}
	found.generation++
	found.metadata = asked.Items
	// What follows is done by the agent on the instance.
	for _, item := range asked.Items {
		var err error
		switch {
		case item.Value == nil:
		case item.Key == "ssh-keys":
			err = c.letIn(ctx, found, *item.Value)
		case item.Key == "windows-keys":
			err = makePassword(found, *item.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	return &compute.Operation{Name: "metadata", Status: "RUNNING"}, nil
}

// letIn hands the keys to the machine that it has not got yet: each is "user:type key google-ssh {limits}".
func (c *Cloud) letIn(ctx context.Context, found *instance, keys string) error {
	for line := range strings.Lines(keys) {
		user, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		key, _, _ := strings.Cut(rest, " google-ssh ")
		if key == "" || found.known[user+key] {
			continue
		}
		if err := c.options.Machines.Authorize(ctx, found.machine, user, key); err != nil {
			return err
		}
		if found.known == nil {
			found.known = map[string]bool{}
		}
		found.known[user+key] = true
	}
	return nil
}

// makePassword does what the agent of Windows does: it encrypts a password and writes it to the serial port.
func makePassword(found *instance, text string) error {
	var asked struct{ UserName, Modulus, Exponent string }
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return faults.Refuse(http.StatusBadRequest, "badRequest", "%v", err)
	}
	modulus, err := base64.StdEncoding.DecodeString(asked.Modulus)
	if err != nil {
		return faults.Refuse(http.StatusBadRequest, "badRequest", "%v", err)
	}
	exponent, err := base64.StdEncoding.DecodeString(asked.Exponent)
	if err != nil {
		return faults.Refuse(http.StatusBadRequest, "badRequest", "%v", err)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}
	encrypted, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(WindowsPassword), nil)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(map[string]any{
		"ready": true, "userName": asked.UserName, "modulus": asked.Modulus, "exponent": asked.Exponent,
		"passwordFound": true, "encryptedPassword": base64.StdEncoding.EncodeToString(encrypted),
	})
	if err != nil {
		return err
	}
	found.serial += "{\"ready\":true}\n" + string(answer) + "\n"
	return nil
}

func (c *Cloud) serialPort(name, start string) (any, error) {
	found := c.find(name)
	if found == nil {
		return nil, faults.Refuse(http.StatusNotFound, "notFound", "the resource 'instances/%s' was not found", name)
	}
	from, _ := strconv.Atoi(start)
	from = min(max(from, 0), len(found.serial))
	return &compute.SerialPortOutput{Contents: found.serial[from:], Start: int64(from), Next: int64(len(found.serial))}, nil
}
