package aws

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"golang.org/x/crypto/ssh"
)

// windowsPassword returns the password that an instance with Windows made at its first start, and encrypted
// for the key pair of its launch template.
func (g *InstanceGroup) windowsPassword(ctx context.Context, instance string) (string, error) {
	const remedy = "set key_path in connector_config to the private RSA key of the launch template's key pair, or use_static_credentials with a password"
	parsed, err := ssh.ParseRawPrivateKey(g.key.Private)
	if err != nil {
		return "", fmt.Errorf("reading the password of instance %q: reading the private key: %w; %s", instance, err, remedy)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return "", fmt.Errorf("reading the password of instance %q: the key is no RSA key; %s", instance, remedy)
	}
	answer, err := g.compute.password(ctx, &ec2.GetPasswordDataInput{InstanceId: &instance})
	if err != nil {
		return "", fmt.Errorf("reading the password of instance %q: %w", instance, err)
	}
	text := aws.ToString(answer.PasswordData)
	if text == "" {
		return "", fmt.Errorf("instance %q has not made its password yet", instance)
	}
	encrypted, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("reading the password of instance %q: %w", instance, err)
	}
	//lint:ignore SA1019 EC2 knows no other padding
	password, err := rsa.DecryptPKCS1v15(nil, key, encrypted)
	if err != nil {
		return "", errors.New("the password of instance " + instance + " cannot be decrypted: it was made for another key; " + remedy)
	}
	return string(password), nil
}
