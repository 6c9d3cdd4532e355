// An agent that knows nothing but an MCP server's URL, with the SDK that is named:
// `agent_typescript.mjs SDK URL`. SDK is `client` (of @modelcontextprotocol), `sdk`, or `mcp-sdk-1.17`.
// Prints `AUTHORIZE link` when a person has to log in, and at its end, as JSON, what it got.
import { createServer } from 'node:http';
import { once } from 'node:events';

const [name, url] = process.argv.slice(2);
const { Client, Transport, UnauthorizedError, auth } = await imported(name);

async function imported(sdk) {
  if (sdk === 'client') {
    const all = await import('@modelcontextprotocol/client');
    return { ...all, Transport: all.StreamableHTTPClientTransport };
  }
  const root = sdk === 'sdk' ? '@modelcontextprotocol/sdk' : sdk;
  const { Client } = await import(`${root}/client/index.js`);
  const { StreamableHTTPClientTransport } = await import(`${root}/client/streamableHttp.js`);
  const { UnauthorizedError, auth } = await import(`${root}/client/auth.js`);
  return { Client, Transport: StreamableHTTPClientTransport, UnauthorizedError, auth };
}

// The redirect URI of an agent on a person's machine.
const answers = [];
let waiting;
const listener = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  response.setHeader('Content-Type', 'text/plain').end('Back in the agent.');
  if (pathname !== '/callback') return;
  answers.push(searchParams);
  waiting?.();
});
listener.listen(0, '127.0.0.1');
await once(listener, 'listening');

class Provider {
  kept = {};
  authorizations = 0;
  get redirectUrl() {
    return `http://127.0.0.1:${listener.address().port}/callback`;
  }
  get clientMetadata() {
    return {
      client_name: `Agent with ${name}`,
      redirect_uris: [this.redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    };
  }
  clientInformation() { return this.kept.client; }
  saveClientInformation(client) { this.kept.client = client; }
  tokens() { return this.kept.tokens; }
  saveTokens(tokens) { this.kept.tokens = tokens; }
  codeVerifier() { return this.kept.verifier; }
  saveCodeVerifier(verifier) { this.kept.verifier = verifier; }
  redirectToAuthorization(link) {
    this.authorizations += 1;
    console.log(`AUTHORIZE ${link}`);
  }
}

const provider = new Provider();

async function answered() {
  while (answers.length === 0) await new Promise((done) => { waiting = done; });
  return answers.shift();
}

// Runs a step; when a person has to act first, waits for the answer and runs it again.
async function withPerson(transport, step) {
  try {
    return await step();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    const answer = await answered();
    await transport().finishAuth(name === 'client' ? answer : answer.get('code'));
    return await step();
  }
}

let client;
let transport;
async function connect() {
  transport = new Transport(new URL(url), { authProvider: provider });
  client = new Client({ name: 'agent', version: '1' });
  await client.connect(transport);
}

async function called(tool, title) {
  const given = title === undefined ? {} : { title };
  const { content, isError } = await client.callTool({ name: tool, arguments: given });
  if (isError) throw new Error(content[0].text);
  return content[0].text;
}

const seen = { sdk: name };
await withPerson(() => transport, connect);
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
seen.read = await called('list_recordings');
seen.logins = provider.authorizations;
seen.scope = provider.kept.tokens.scope;
try {
  seen.write = await withPerson(() => transport, () => called('delete_recording', 'Dawn chorus'));
} catch (error) {
  // The SDK of 1.x has refreshed its token, which has no more scopes than before: its host has the
  // person consent to more.
  seen.refused = String(error.message);
  provider.kept.tokens = undefined;
  await auth(provider, { serverUrl: url, scope: 'read write' });
  await auth(provider, { serverUrl: url, authorizationCode: (await answered()).get('code') });
  seen.write = await called('delete_recording', 'Dawn chorus');
}
seen.steppedUp = provider.authorizations;
// As after the expiry of the access token.
provider.kept.tokens = { ...provider.kept.tokens, access_token: 'expired' };
const before = provider.kept.tokens.refresh_token;
seen.again = await called('list_recordings');
seen.refreshed = provider.kept.tokens.refresh_token !== before;
seen.loginsAtTheEnd = provider.authorizations;
await client.close();
listener.close();
console.log(JSON.stringify(seen));
process.exit(0);
