// Pushes authorization requests with openid-client, as a confidential client and as a public one
// with DPoP, and redeems their codes; prints as JSON what came of it. Where and who is in the
// environment.
import * as client from 'openid-client'

const { ISSUER, WEB, WEB_SECRET, PHONE, REDIRECT_URI } = process.env
const options = { algorithm: 'oauth2', execute: [client.allowInsecureRequests] } // on loopback
const discovered = (id, authentication) =>
  client.discovery(new URL(ISSUER), id, undefined, authentication, options)
const refusal = async (request) => {
  try {
    await request
  } catch (error) {
    if (!(error instanceof client.ResponseBodyError)) throw error
    return `${error.status} ${error.error}`
  }
  return 'accepted'
}

const login = async (config, DPoP) => {
  const verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  const wanted = {
    redirect_uri: REDIRECT_URI,
    scope: 'read write',
    state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  }
  const address = await client.buildAuthorizationUrlWithPAR(config, wanted, { DPoP })
  const visit = () => fetch(address, { headers: { cookie: 'user=ada' }, redirect: 'manual' })
  const first = await visit()
  const again = await visit()
  const back = new URL(first.headers.get('location'))
  const checks = { pkceCodeVerifier: verifier, expectedState: state }
  const redeemed = (handle) =>
    client.authorizationCodeGrant(config, back, checks, undefined, { DPoP: handle })
  const stranger = DPoP && client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
  const stolen = DPoP ? await refusal(redeemed(stranger)) : undefined
  const tokens = await redeemed(DPoP)
  return {
    link: [...address.searchParams.keys()].sort(),
    again: again.status,
    stolen,
    type: tokens.token_type,
    scope: tokens.scope,
    unregistered: await refusal(
      client.buildAuthorizationUrlWithPAR(
        config,
        { ...wanted, redirect_uri: 'https://evil.example/cb' },
        { DPoP },
      ),
    ),
  }
}

const web = await discovered(WEB, client.ClientSecretBasic(WEB_SECRET))
const phone = await discovered(PHONE, client.None())
const DPoP = client.getDPoPHandle(phone, await client.randomDPoPKeyPair('ES256'))
console.log(JSON.stringify({ web: await login(web), phone: await login(phone, DPoP) }))
