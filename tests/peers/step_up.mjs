// Steps a login up with oauth4webapi, at an API whose server shows its own login page; prints as
// JSON what came of each request. Where and who is in the environment.
import * as oauth from 'oauth4webapi'

const { ISSUER, USERNAME, PASSWORD } = process.env
const insecure = { [oauth.allowInsecureRequests]: true } // http, on loopback
const redirectUri = 'http://127.0.0.1:8/callback'
const client = { client_id: 'phone' }
const server = await oauth.processDiscoveryResponse(
  new URL(ISSUER),
  await oauth.discoveryRequest(new URL(ISSUER), { algorithm: 'oauth2', ...insecure }),
)

// A browser: it keeps cookies, and follows redirects as far as this server.
const cookies = new Map()
const visit = async (address, body) => {
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
  const method = body ? 'POST' : 'GET'
  const answer = await fetch(address, { method, body, headers: { cookie }, redirect: 'manual' })
  for (const line of answer.headers.getSetCookie()) {
    const [, name, value] = line.match(/^([^=]+)=([^;]*)/)
    cookies.set(name, value)
  }
  const location = answer.headers.get('location')
  if (!location) return { page: await answer.text() }
  const next = new URL(location, ISSUER)
  return next.origin === new URL(ISSUER).origin ? visit(next) : { returned: next }
}
const submit = (page, fields) => {
  const form = new URLSearchParams(fields)
  for (const [, name, value] of page.matchAll(/type="hidden" name="([^"]+)" value="([^"]*)"/g)) {
    form.set(name, value)
  }
  const [, action] = page.match(/<form method="post" action="([^"]+)"/)
  return visit(new URL(action, ISSUER), form)
}

// Ask for a token with these parameters; return whether a password was asked for, and the token.
const authorize = async (parameters) => {
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const address = new URL(server.authorization_endpoint)
  for (const [name, value] of Object.entries({
    client_id: client.client_id,
    redirect_uri: redirectUri,
    response_type: 'code',
    scope: 'read write',
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...parameters,
  })) {
    address.searchParams.set(name, value)
  }
  let seen = await visit(address)
  const password = Boolean(seen.page?.includes('name="password"'))
  if (password) seen = await submit(seen.page, { username: USERNAME, password: PASSWORD })
  if (seen.page) seen = await submit(seen.page, { decision: 'allow' })
  const response = oauth.validateAuthResponse(server, client, seen.returned, state)
  const tokens = await oauth.processAuthorizationCodeResponse(
    server,
    client,
    await oauth.authorizationCodeGrantRequest(
      server, client, oauth.None(), response, redirectUri, verifier, insecure,
    ),
  )
  return { password, token: tokens.access_token }
}
const refused = async (parameters) => {
  try {
    await authorize(parameters)
  } catch (error) {
    if (error instanceof oauth.AuthorizationResponseError) return error.error
    throw error
  }
  return 'a code'
}
const call = (token, method, path) =>
  oauth.protectedResourceRequest(token, method, new URL(path, ISSUER), undefined, null, insecure)
const transferred = async ({ password, token }) => ({
  password,
  status: (await call(token, 'POST', '/transfers')).status,
})

const first = await authorize({})
let challenge
try {
  await call(first.token, 'GET', '/vault')
} catch (error) {
  if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error
  challenge = error.cause[0].parameters
}
const recent = await transferred(await authorize({ max_age: '60' }))
await new Promise((resolve) => setTimeout(resolve, 2100))
console.log(
  JSON.stringify({
    metadata: server,
    challenge,
    recent,
    tooOld: await refused({ prompt: 'none', max_age: '1' }),
    forced: await transferred(await authorize({ prompt: 'login' })),
    zero: await transferred(await authorize({ max_age: '0' })),
    silent: await refused({ prompt: 'none' }),
    unmet: await refused({ acr_values: 'phr' }),
    mixed: await refused({ prompt: 'none login' }),
  }),
)
