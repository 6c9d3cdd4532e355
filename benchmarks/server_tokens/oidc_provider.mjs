// The certified package oidc-provider on PORT, with everything in its memory.
//
// OIDC_PROVIDER is where it is installed; CLIENTS, REDIRECT_URI as for the other servers. The
// resource urn:api:ALGORITHM gets JWT access tokens, and urn:api:opaque gets opaque ones. A refresh
// token is rotated by each use. Each code has a grant of its own.
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';

const { default: Provider } = await import(process.env.OIDC_PROVIDER);
const port = Number(process.env.PORT);
const lifetime = 36000;
const clients = JSON.parse(process.env.CLIENTS);

// Its own memory forgets all but the last 1000 entries, and so tokens that are to be measured.
const memory = new Map();
const grants = new Map();
class Memory {
  constructor(model) {
    this.model = model;
  }
  async upsert(id, payload) {
    const key = `${this.model}:${id}`;
    memory.set(key, payload);
    if (payload.uid) memory.set(`uid:${payload.uid}`, payload);
    if (payload.grantId) {
      if (!grants.has(payload.grantId)) grants.set(payload.grantId, []);
      grants.get(payload.grantId).push(key);
    }
  }
  async find(id) {
    return memory.get(`${this.model}:${id}`);
  }
  async findByUid(uid) {
    return memory.get(`uid:${uid}`);
  }
  async consume(id) {
    memory.get(`${this.model}:${id}`).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    memory.delete(`${this.model}:${id}`);
  }
  async revokeByGrantId(grantId) {
    for (const key of grants.get(grantId) ?? []) memory.delete(key);
    grants.delete(grantId);
  }
}

const key = (alg, made) => ({ ...made.privateKey.export({ format: 'jwk' }), alg, kid: alg, use: 'sig' });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Memory,
  clients: [
    {
      client_id: 'app',
      client_secret: clients.app,
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: [process.env.REDIRECT_URI],
    },
    {
      client_id: 'machine',
      client_secret: clients.machine,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  jwks: {
    keys: [
      key('RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })),
      key('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })),
    ],
  },
  cookies: { keys: ['only for the benchmark'] },
  ttl: { AccessToken: lifetime, ClientCredentials: lifetime, RefreshToken: lifetime, Session: lifetime, Grant: lifetime },
  issueRefreshToken: () => true,
  expiresWithSession: () => false,
  rotateRefreshToken: true,
  async loadExistingGrant(context) {
    const { client, session, params } = context.oidc;
    const grant = new context.oidc.provider.Grant({ accountId: session.accountId, clientId: client.clientId });
    grant.addResourceScope(params.resource, 'read write');
    await grant.save();
    return grant;
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => ({
        scope: 'read write',
        audience: resource,
        accessTokenTTL: lifetime,
        ...(resource === 'urn:api:opaque'
          ? { accessTokenFormat: 'opaque' }
          : { accessTokenFormat: 'jwt', jwt: { sign: { alg: resource.split(':').at(-1) } } }),
      }),
    },
  },
});
const handle = provider.callback();
http.createServer({ keepAliveTimeout: 75000 }, handle).listen(port, '127.0.0.1');
