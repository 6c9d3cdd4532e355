// An independent issuer on loopback: the certified package oidc-provider, with its keys and its
// network in the tests' hands. Prints READY and its URL.
//
//   POST /test/rotate?keep=1   sign with new keys; publish the old ones too, or not
//   POST /test/outage?on=1     answer everything else with 503, until on=0
//   POST /test/delay?ms=200    answer everything else that much later
//   GET  /test/hits            how often each path was asked for
//   GET  /test/logouts         what came of each back-channel logout
//
// With BACKCHANNEL_LOGOUT_URI there is a client with users, who log in by any name, and whose
// logout tokens are sent there: by session or, with BACKCHANNEL_LOGOUT_SID=0, by subject.
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import Provider from 'oidc-provider';

const lifetime = 3600;
// Seconds by which this issuer's clock differs: tokens of the past are made in the past.
const offset = Number(process.env.CLOCK_OFFSET ?? 0) * 1000;
const now = Date.now;
Date.now = () => now() + offset;

const algorithms = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

let generation = 0;
const makeKeys = () => {
  generation += 1;
  return Object.entries(algorithms).map(([alg, make]) => ({
    ...make().privateKey.export({ format: 'jwk' }),
    alg,
    kid: `${alg}-${generation}`,
    use: 'sig',
  }));
};

// The APIs that may introspect: one by a secret, one that gets signed answers, and one by its key.
const api = (client_id, more) => ({
  client_id,
  grant_types: [],
  redirect_uris: [],
  response_types: [],
  ...more,
});
const apis = () => [
  api('api', { client_secret: 'api: secret+with %signs' }),
  api('signed-api', { client_secret: 'api-secret', introspection_signed_response_alg: 'ES256' }),
  ...(process.env.API_JWK
    ? [
        api('keyed-api', {
          token_endpoint_auth_method: 'private_key_jwt',
          jwks: { keys: [JSON.parse(process.env.API_JWK)] },
        }),
      ]
    : []),
];

const logoutUri = process.env.BACKCHANNEL_LOGOUT_URI;
const withUsers = () =>
  logoutUri
    ? [
        {
          client_id: 'web',
          client_secret: 'web-secret',
          redirect_uris: ['http://127.0.0.1/callback'],
          id_token_signed_response_alg: 'ES256',
          backchannel_logout_uri: logoutUri,
          backchannel_logout_session_required: process.env.BACKCHANNEL_LOGOUT_SID !== '0',
        },
      ]
    : [];
const logouts = [];

// With CLIENT_JWK there are clients for the client of this package, whose users log in by any
// name: an app of a device, and programs with the key CLIENT_JWK. Proofs of possession need a
// nonce then.
const clientKey = process.env.CLIENT_JWK ? JSON.parse(process.env.CLIENT_JWK) : undefined;
const programs = () =>
  clientKey
    ? [
        {
          client_id: 'native',
          application_type: 'native',
          token_endpoint_auth_method: 'none',
          grant_types: [
            'authorization_code',
            'refresh_token',
            'urn:ietf:params:oauth:grant-type:device_code',
          ],
          redirect_uris: ['http://127.0.0.1/callback'],
        },
        {
          client_id: 'secretive',
          client_secret: 'secretive-secret',
          application_type: 'native',
          grant_types: ['authorization_code', 'refresh_token'],
          redirect_uris: ['http://127.0.0.1/callback'],
        },
        {
          client_id: 'keyed',
          token_endpoint_auth_method: 'private_key_jwt',
          jwks: { keys: [clientKey] },
          grant_types: ['client_credentials'],
          redirect_uris: [],
          response_types: [],
        },
      ]
    : [];

// With DOCS_REDIRECT there is a public client for the docs of an API, in a browser, whose users log
// in by any name. ISSUER is the public name of this server behind a reverse proxy.
const docsRedirect = process.env.DOCS_REDIRECT;
const docs = () =>
  docsRedirect
    ? [
        {
          client_id: 'swagger',
          token_endpoint_auth_method: 'none',
          redirect_uris: [docsRedirect],
        },
      ]
    : [];

// With UPSTREAM_REDIRECT there is a client for an authorization server whose users sign in here, by
// any name, which becomes an address of example.com.
const upstreamRedirect = process.env.UPSTREAM_REDIRECT;
const upstream = () =>
  upstreamRedirect
    ? [
        {
          client_id: 'server',
          client_secret: 'server: secret+with %signs',
          redirect_uris: [upstreamRedirect],
          id_token_signed_response_alg: 'ES256',
          require_auth_time: true,
          ...(process.env.UPSTREAM_LOGOUT
            ? {
                backchannel_logout_uri: process.env.UPSTREAM_LOGOUT,
                backchannel_logout_session_required: true,
              }
            : {}),
        },
      ]
    : [];
const account = (_context, id) => ({
  accountId: id,
  claims: () => ({ sub: id, name: `User ${id}`, email: `${id}@example.com`, email_verified: true }),
});
const asUpstream = upstreamRedirect
  ? {
      findAccount: account,
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    }
  : {};

const makeApp = (issuer, keys) => {
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'caller',
        client_secret: 'caller-secret',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
      ...apis(),
      ...withUsers(),
      ...programs(),
      ...docs(),
      ...upstream(),
    ],
    extraTokenClaims: (_context, token) => (token.sid ? { sid: token.sid } : undefined),
    jwks: { keys },
    ...asUpstream,
    scopes: ['read', 'write'],
    ...(docsRedirect ? { clientBasedCORS: () => true } : {}),
    // Its own dispatcher reaches no loopback address, where the tests are.
    fetch: (url, options) => globalThis.fetch(url, { ...options, dispatcher: undefined }),
    cookies: { keys: ['only for tests'] },
    ttl: { ClientCredentials: lifetime },
    ...(clientKey ? { issueRefreshToken: () => true } : {}),
    enabledJWA: { idTokenSigningAlgValues: Object.keys(algorithms) },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: Boolean(logoutUri ?? clientKey ?? docsRedirect ?? upstreamRedirect) },
      deviceFlow: { enabled: Boolean(clientKey) },
      dPoP: {
        enabled: true,
        ...(clientKey
          ? { nonceSecret: Buffer.alloc(32, 'only for tests'), requireNonce: () => true }
          : {}),
      },
      backchannelLogout: { enabled: Boolean(logoutUri ?? process.env.UPSTREAM_LOGOUT) },
      introspection: { enabled: true, allowedPolicy: () => true },
      jwtIntrospection: { enabled: true },
      // With REQUIRE_PAR, authorization requests must be pushed (RFC 9126).
      pushedAuthorizationRequests: {
        enabled: true,
        requirePushedAuthorizationRequests: Boolean(process.env.REQUIRE_PAR),
      },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        // Swagger UI names the resource only when it asks for the code (RFC 8707 §2.2).
        useGrantedResource: () => Boolean(docsRedirect),
        // The resource urn:api:RS256 gets JWT access tokens that are signed by RS256, and
        // urn:api:opaque gets opaque ones.
        getResourceServerInfo: (_context, resource) => ({
          scope: 'read write',
          audience: resource,
          accessTokenTTL: lifetime,
          ...(resource === 'urn:api:opaque'
            ? { accessTokenFormat: 'opaque' }
            : {
                accessTokenFormat: 'jwt',
                jwt: { sign: { alg: resource.split(':').at(-1) } },
              }),
        }),
      },
    },
  });
  provider.on('backchannel.success', () => logouts.push('success'));
  provider.on('backchannel.error', (_context, error) => logouts.push(`${error} ${error.cause}`));
  return provider.callback();
};

let keys = makeKeys();
let app;
let outage = false;
let delay = 0;
const hits = {};

const control = (url, response) => {
  if (url.pathname === '/test/rotate') {
    keys = [...makeKeys(), ...(url.searchParams.get('keep') === '1' ? keys : [])];
    app = makeApp(issuer, keys);
  } else if (url.pathname === '/test/outage') {
    outage = url.searchParams.get('on') === '1';
  } else if (url.pathname === '/test/delay') {
    delay = Number(url.searchParams.get('ms'));
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(url.pathname === '/test/logouts' ? logouts : hits));
};

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  if (url.pathname.startsWith('/test/')) return control(url, response);
  hits[url.pathname] = (hits[url.pathname] ?? 0) + 1;
  if (outage) {
    response.statusCode = 503;
    return response.end();
  }
  return setTimeout(() => app(request, response), delay);
});

let issuer;
server.listen(0, '127.0.0.1', () => {
  const here = `http://127.0.0.1:${server.address().port}`;
  issuer = process.env.ISSUER ?? here;
  app = makeApp(issuer, keys);
  console.log(`READY ${here}`);
});
