package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// awsSecret is a secret in AWS Secrets Manager.
type awsSecret struct {
	SecretID     string `json:"secret_id"`
	VersionID    string `json:"version_id"`
	VersionStage string `json:"version_stage"`
	// Field picks a key of a secret that is a JSON object; empty is the whole.
	Field           string `json:"field"`
	Region          string `json:"region"`
	RoleARN         string `json:"role_arn"`
	RoleSessionName string `json:"role_session_name"`
	Server          struct {
		Region          string `json:"region"`
		JWT             string `json:"jwt"`
		RoleARN         string `json:"role_arn"`
		RoleSessionName string `json:"role_session_name"`
	} `json:"server"`
}

// identity is the job's token.
type identity string

func (i identity) GetIdentityToken() ([]byte, error) { return []byte(i), nil }

// sessionLimit is how long the name of a session may be.
const sessionLimit = 64

func (c *Client) fromAWS(ctx context.Context, s awsSecret) (string, error) {
	loaded, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(callTimeout)))
	if err != nil {
		return "", fmt.Errorf("loading the AWS configuration: %w", err)
	}
	loaded.Region = first(s.Region, s.Server.Region, loaded.Region)
	role := first(s.RoleARN, s.Server.RoleARN)
	if role == "" {
		return "", fmt.Errorf("reading secret %q: role_arn is missing: a job has no rights of this machine's", s.SecretID)
	}
	session := first(s.RoleSessionName, s.Server.RoleSessionName, c.SessionName)
	tokens := sts.NewFromConfig(loaded, func(o *sts.Options) {
		if address := c.Endpoints["sts"]; address != "" {
			o.BaseEndpoint = &address
		}
	})
	loaded.Credentials = aws.NewCredentialsCache(stscreds.NewWebIdentityRoleProvider(tokens, role, identity(s.Server.JWT), func(o *stscreds.WebIdentityRoleOptions) {
		o.RoleSessionName = session[:min(len(session), sessionLimit)]
	}))
	client := secretsmanager.NewFromConfig(loaded, func(o *secretsmanager.Options) {
		if address := c.Endpoints["secretsmanager"]; address != "" {
			o.BaseEndpoint = &address
		}
	})
	answer, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: &s.SecretID, VersionId: optional(s.VersionID), VersionStage: optional(s.VersionStage),
	})
	if err != nil {
		return "", fmt.Errorf("reading secret %q: %w", s.SecretID, awsError(ctx, err))
	}
	value := aws.ToString(answer.SecretString)
	if answer.SecretString == nil {
		value = string(answer.SecretBinary)
	}
	if s.Field == "" {
		return value, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(value), &fields); err != nil {
		return "", fmt.Errorf("reading secret %q: it is no JSON object, which field %q asks for", s.SecretID, s.Field)
	}
	field, found := fields[s.Field]
	if !found {
		return "", fmt.Errorf("%w: secret %q has no field %q", ErrNotFound, s.SecretID, s.Field)
	}
	return text(field), nil
}

// awsError tells what kind of failure it is.
func awsError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return fmt.Errorf("%w: %s", ErrNotFound, aws.ToString(missing.Message))
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		message := answer.Err.Error()
		return &Refusal{Status: answer.HTTPStatusCode(), Message: message[:min(len(message), messageLimit)]}
	}
	return &UnreachableError{err}
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
