// Gets tokens with openid-client, bound to a key by DPoP and to a certificate by mutual TLS, and
// calls the guarded API with them; prints as JSON what came of it. Where and who is in the
// environment.
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import * as undici from 'undici'

const { ISSUER, PHONE, MACHINE, REDIRECT_URI, AUTHORITY, CERTIFICATE, KEY } = process.env
const issuer = new URL(ISSUER)
const things = new URL('/things', ISSUER)
const algorithm = 'oauth2'
const ca = readFileSync(AUTHORITY)
const over = (connect) => {
  const dispatcher = new undici.Agent({ connect: { ca, ...connect } })
  return (address, options) => undici.fetch(address, { ...options, dispatcher })
}
const plain = over({})
const mutual = over({ cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) })
const content = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))
// The status of a response, or the error of its challenge.
const outcome = async (request) => {
  try {
    return (await request).status
  } catch (error) {
    if (!(error instanceof client.WWWAuthenticateChallengeError)) throw error
    return `${error.status} ${error.cause[0].parameters.error}`
  }
}

// Authorization code with PKCE and DPoP, as a public client.
const phone = await client.discovery(issuer, PHONE, undefined, client.None(), {
  algorithm,
  [client.customFetch]: plain,
})
const pair = await client.randomDPoPKeyPair('ES256')
const DPoP = client.getDPoPHandle(phone, pair)
const verifier = client.randomPKCECodeVerifier()
const state = client.randomState()
const address = client.buildAuthorizationUrl(phone, {
  redirect_uri: REDIRECT_URI,
  scope: 'read write',
  state,
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  dpop_jkt: await DPoP.calculateThumbprint(),
})
const visit = await plain(address, { headers: { cookie: 'user=ada' }, redirect: 'manual' })
const back = new URL(visit.headers.get('location'))
const checks = { pkceCodeVerifier: verifier, expectedState: state }
const tokens = await client.authorizationCodeGrant(phone, back, checks, undefined, { DPoP })
const renewed = await client.refreshTokenGrant(phone, tokens.refresh_token, undefined, { DPoP })
const call = (config, token, options) =>
  outcome(client.fetchProtectedResource(config, token, things, 'GET', null, undefined, options))
const other = client.getDPoPHandle(phone, await client.randomDPoPKeyPair('ES256'))
let stolen
try {
  await client.refreshTokenGrant(phone, renewed.refresh_token, undefined, { DPoP: other })
} catch (error) {
  if (!(error instanceof client.ResponseBodyError)) throw error
  stolen = error.error
}

// Client credentials by a certificate.
const machine = await client.discovery(
  issuer,
  MACHINE,
  { use_mtls_endpoint_aliases: true },
  client.TlsClientAuth(),
  { algorithm, [client.customFetch]: mutual },
)
const bound = await client.clientCredentialsGrant(machine, { scope: 'read' })
const withoutCertificate = new client.Configuration(
  machine.serverMetadata(),
  MACHINE,
  {},
  client.TlsClientAuth(),
)
withoutCertificate[client.customFetch] = plain
let anonymous
try {
  await client.clientCredentialsGrant(withoutCertificate, { scope: 'read' })
} catch (error) {
  if (!(error instanceof client.ResponseBodyError)) throw error
  anonymous = error.error
}

console.log(
  JSON.stringify({
    dpop: {
      types: [tokens.token_type, renewed.token_type],
      bound: content(renewed.access_token).cnf.jkt === (await DPoP.calculateThumbprint()),
      api: await call(phone, renewed.access_token, { DPoP }),
      again: await call(phone, renewed.access_token, { DPoP }),
      otherKey: await call(phone, renewed.access_token, { DPoP: other }),
      withoutProof: await call(phone, renewed.access_token, {}),
      refreshByOtherKey: stolen,
    },
    mutual: {
      type: bound.token_type,
      cnf: content(bound.access_token).cnf,
      api: await call(machine, bound.access_token, {}),
      withoutCertificate: await call(withoutCertificate, bound.access_token, {}),
      tokenWithoutCertificate: anonymous,
    },
  }),
)
