// An enterprise's identity provider on loopback: the certified package oidc-provider, to which this
// file adds the token exchange that issues ID-JAGs
// (draft-ietf-oauth-identity-assertion-authz-grant §4.3). Prints READY and its URL.
//
// Users log in to the client `chat` by any name. Of them, everybody but `eve` may use the resource
// server. CLIENT_AT_SERVER is what that server calls the client.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import http from 'node:http';
import { SignJWT } from 'jose';
import Provider, { errors } from 'oidc-provider';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const TYPE = 'urn:ietf:params:oauth:token-type:';
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...privateKey.export({ format: 'jwk' }), alg: 'ES256', kid: 'idp', use: 'sig' };

const makeApp = (issuer) => {
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'chat',
        client_secret: 'chat-secret',
        grant_types: ['authorization_code', EXCHANGE],
        redirect_uris: ['http://127.0.0.1/callback'],
        id_token_signed_response_alg: 'ES256',
      },
    ],
    jwks: { keys: [key] },
    cookies: { keys: ['only for tests'] },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    features: { devInteractions: { enabled: true } },
  });
  const exchange = async (context) => {
    const { params, client } = context.oidc;
    if (params.requested_token_type !== `${TYPE}id-jag`) {
      throw new errors.InvalidRequest('requested_token_type is not supported');
    }
    if (params.subject_token_type !== `${TYPE}id_token` || !params.audience) {
      throw new errors.InvalidRequest('an ID token and an audience are required');
    }
    let identity;
    try {
      identity = await provider.IdToken.validate(params.subject_token, client);
    } catch {
      throw new errors.InvalidGrant('the ID token is invalid');
    }
    const subject = identity.payload.sub;
    if (subject === 'eve') throw new errors.AccessDenied('the policy does not allow this');
    const claims = {
      client_id: process.env.CLIENT_AT_SERVER,
      email: `${subject}@example.com`,
      ...(params.resource ? { resource: params.resource } : {}),
      ...(params.scope ? { scope: params.scope } : {}),
    };
    context.body = {
      issued_token_type: `${TYPE}id-jag`,
      access_token: await new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', kid: 'idp', typ: 'oauth-id-jag+jwt' })
        .setIssuer(issuer)
        .setSubject(subject)
        .setAudience(params.audience)
        .setIssuedAt()
        .setExpirationTime('5m')
        .setJti(randomUUID())
        .sign(privateKey),
      token_type: 'N_A',
      expires_in: 300,
    };
  };
  const parameters = ['audience', 'resource', 'scope', 'requested_token_type'];
  parameters.push('subject_token', 'subject_token_type');
  provider.registerGrantType(EXCHANGE, exchange, parameters);
  return provider.callback();
};

let app;
const server = http.createServer((request, response) => app(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  app = makeApp(issuer);
  console.log(`READY ${issuer}`);
});
