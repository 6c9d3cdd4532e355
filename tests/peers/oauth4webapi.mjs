// Runs every grant of a server with oauth4webapi, which checks the answers strictly, and
// prints the steps that it took as JSON. What to call, and as whom, is in the environment; with
// DPOP, its tokens are bound to a key; with PUSH, it pushes its authorization request (RFC 9126).
import * as oauth from 'oauth4webapi'
import { createPrivateKey, webcrypto } from 'node:crypto'

const { DPOP, PUSH, ISSUER, KIND, CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, REDIRECT_URI } = process.env
const insecure = { [oauth.allowInsecureRequests]: true } // http, on loopback
const steps = []

const issuer = new URL(ISSUER)
const server = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }),
)
steps.push('discovery')

const client = { client_id: CLIENT_ID }
const authentication = {
  confidential: () => oauth.ClientSecretBasic(CLIENT_SECRET),
  public: () => oauth.None(),
  private_key_jwt: async () => {
    const jwk = createPrivateKey(PRIVATE_KEY).export({ format: 'jwk' })
    const curve = { name: 'ECDSA', namedCurve: 'P-256' }
    const key = await webcrypto.subtle.importKey('jwk', jwk, curve, false, ['sign'])
    return oauth.PrivateKeyJwt({ key, kid: 'robot' })
  },
}
const proof = await authentication[KIND]()
const DPoP = DPOP ? oauth.DPoP(client, await oauth.generateKeyPair(DPOP)) : undefined
const bound = { DPoP, ...insecure }

// Sends a token request, once more if the server demands a nonce.
let demanded = 0
const asked = async (request, read) => {
  try {
    return await read(await request())
  } catch (error) {
    if (!DPoP || !oauth.isDPoPNonceError(error)) throw error
    demanded += 1
    return read(await request())
  }
}
const checkType = ({ token_type }) => {
  if (token_type !== (DPoP ? 'dpop' : 'bearer')) throw new Error(`a token of type ${token_type}`)
}

const verifier = oauth.generateRandomCodeVerifier()
const state = oauth.generateRandomState()
const address = new URL(server.authorization_endpoint)
const wanted = {
  client_id: CLIENT_ID,
  redirect_uri: REDIRECT_URI,
  response_type: 'code',
  scope: 'read write',
  state,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  ...(DPoP && !PUSH ? { dpop_jkt: await DPoP.calculateThumbprint() } : {}),
}
let link = wanted
if (PUSH) {
  const pushed = await asked(
    () => oauth.pushedAuthorizationRequest(server, client, proof, wanted, bound),
    (response) => oauth.processPushedAuthorizationResponse(server, client, response),
  )
  if (pushed.expires_in !== 60) throw new Error(`it expires in ${pushed.expires_in}`)
  link = { client_id: CLIENT_ID, request_uri: pushed.request_uri }
  steps.push('push')
}
for (const [name, value] of Object.entries(link)) {
  address.searchParams.set(name, value)
}
const cookies = ['user=ada']
let answer = await fetch(address, { headers: { cookie: cookies[0] }, redirect: 'manual' })
if (answer.status === 200) {
  // The consent page: send its hidden fields back, as a browser does.
  const fields = new URLSearchParams({ decision: 'allow' })
  for (const [, name, value] of (await answer.text()).matchAll(
    /<input type="hidden" name="([^"]+)" value="([^"]*)">/g,
  )) {
    fields.set(name, value)
  }
  cookies.push(...answer.headers.getSetCookie().map((line) => line.split(';')[0]))
  answer = await fetch(`${ISSUER}/oauth/consent`, {
    method: 'POST',
    body: fields,
    headers: { cookie: cookies.join('; ') },
    redirect: 'manual',
  })
}
const redirected = new URL(answer.headers.get('location'))
const parameters = oauth.validateAuthResponse(server, client, redirected, state)
const tokens = await asked(
  () =>
    oauth.authorizationCodeGrantRequest(
      server, client, proof, parameters, REDIRECT_URI, verifier, bound,
    ),
  (response) => oauth.processAuthorizationCodeResponse(server, client, response),
)
checkType(tokens)
steps.push('code')

const refresh = async (token, options = bound) =>
  asked(
    () => oauth.refreshTokenGrantRequest(server, client, proof, token, options),
    (response) => oauth.processRefreshTokenResponse(server, client, response),
  )
const refreshed = await refresh(tokens.refresh_token)
checkType(refreshed)
steps.push('refresh')
if (DPoP && KIND === 'public') {
  try {
    await refresh(refreshed.refresh_token, insecure)
  } catch (error) {
    if (error.error !== 'invalid_grant') throw error
    steps.push('refused without the key')
  }
}

if (KIND !== 'public') {
  const known = await oauth.processIntrospectionResponse(
    server,
    client,
    await oauth.introspectionRequest(server, client, proof, refreshed.access_token, {
      requestJwtResponse: true,
      ...insecure,
    }),
  )
  if (known.active !== true) throw new Error('the token is not active')
  if (known.cnf?.jkt !== (await DPoP?.calculateThumbprint())) {
    throw new Error('the token is bound to another key')
  }
  steps.push('introspection')
  const own = await asked(
    () => oauth.clientCredentialsGrantRequest(server, client, proof, { scope: 'read' }, bound),
    (response) => oauth.processClientCredentialsResponse(server, client, response),
  )
  checkType(own)
  if (own.refresh_token !== undefined) throw new Error('a refresh token came')
  steps.push('client_credentials')
}

await oauth.processRevocationResponse(
  await oauth.revocationRequest(server, client, proof, refreshed.refresh_token, insecure),
)
steps.push('revocation')
try {
  await refresh(refreshed.refresh_token)
} catch (error) {
  if (error.error !== 'invalid_grant') throw error
  steps.push('refused')
}
if (DPoP && demanded !== 1) throw new Error(`a nonce was demanded ${demanded} times`)
console.log(JSON.stringify(steps))
