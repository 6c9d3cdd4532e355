// A device logs in with the library that LIBRARY names, while a person allows it with Chromium;
// prints, as JSON, what came of it and what the person saw. With DPOP, the tokens are bound to a
// key. Where and who is in the environment.
import { readFileSync } from 'node:fs'
import * as oauth from 'oauth4webapi'
import * as client from 'openid-client'
import { chromium } from 'playwright-core'

const { CHROMIUM, CLIENT, DECISION, DPOP, ISSUER, LIBRARY, PICTURES, WIDTH, SCHEME } = process.env
const issuer = new URL(ISSUER)
const polls = []
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000))

async function withOpenidClient(show) {
  const config = await client.discovery(issuer, CLIENT, undefined, client.None(), {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests],
    [client.customFetch]: async (address, options) => {
      const response = await fetch(address, options)
      if (!response.ok) polls.push((await response.clone().json()).error)
      return response
    },
  })
  const options = DPOP
    ? { DPoP: client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) }
    : undefined
  const asked = await client.initiateDeviceAuthorization(config, { scope: 'read' })
  const shown = show(asked)
  try {
    const tokens = await client.pollDeviceAuthorizationGrant(config, asked, undefined, options)
    return { asked, tokens, seen: await shown }
  } catch (error) {
    return { asked, error: error.error, seen: await shown }
  }
}

async function withOauth4webapi(show) {
  const insecure = { [oauth.allowInsecureRequests]: true } // http, on loopback
  const server = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }),
  )
  const device = { client_id: CLIENT }
  const options = DPOP
    ? { DPoP: oauth.DPoP(device, await oauth.generateKeyPair('ES256')), ...insecure }
    : insecure
  const asked = await oauth.processDeviceAuthorizationResponse(
    server,
    device,
    await oauth.deviceAuthorizationRequest(
      server, device, oauth.None(), { scope: 'read' }, insecure,
    ),
  )
  const shown = show(asked)
  let { interval } = asked
  for (;;) {
    try {
      const tokens = await oauth.processDeviceCodeResponse(
        server,
        device,
        await oauth.deviceCodeGrantRequest(
          server, device, oauth.None(), asked.device_code, options,
        ),
      )
      return { asked, tokens, seen: await shown }
    } catch (error) {
      if (!(error instanceof oauth.ResponseBodyError)) throw error
      polls.push(error.error)
      if (error.error === 'slow_down') interval += 5
      else if (error.error !== 'authorization_pending') {
        return { asked, error: error.error, seen: await shown }
      }
    }
    await pause(interval)
  }
}

// The person at another screen: signs in, compares the code, decides.
async function person(asked) {
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8')
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  })
  const seen = { pages: {}, violations: [], console: [] }
  const context = await browser.newContext({
    bypassCSP: true, // the accessibility check is a script
    colorScheme: SCHEME,
    viewport: { width: Number(WIDTH), height: 760 },
  })
  const page = await context.newPage()
  page.on('console', (message) => seen.console.push(message.text()))
  page.setDefaultTimeout(15000)
  const look = async (name) => {
    const picture = `${PICTURES}/${name}-${SCHEME}-${WIDTH}-${DECISION}.png`
    await page.screenshot({ path: picture, fullPage: true })
    await page.evaluate(axe)
    const { violations } = await page.evaluate(() => globalThis.axe.run())
    seen.violations.push(...violations.map(({ id }) => `${name}: ${id}`))
    seen.pages[name] = await page.evaluate(() => ({
      title: document.title,
      text: document.querySelector('main').innerText,
      tooWide: document.documentElement.scrollWidth > innerWidth,
    }))
  }
  // By keyboard alone: goes to what has the label, and presses Enter there.
  const press = async (label) => {
    for (let presses = 0; presses < 12; presses += 1) {
      await page.keyboard.press('Tab')
      const focused = page.locator(':focus')
      if ((await focused.count()) && (await focused.textContent()) === label) {
        return page.keyboard.press('Enter')
      }
    }
    throw new Error(`the keyboard does not reach ${label}`)
  }
  const enter = async (code) => {
    await page.locator('#user_code:focus').waitFor()
    await page.keyboard.press('Control+A')
    await page.keyboard.type(code)
    await page.keyboard.press('Enter')
  }
  await page.goto(asked.verification_uri_complete)
  await page.locator('#username:focus').waitFor()
  await page.keyboard.type('ada')
  await page.keyboard.press('Tab')
  await page.keyboard.type('correct horse battery')
  await page.keyboard.press('Enter')
  const field = page.getByRole('textbox', { name: 'Code' })
  seen.filledIn = await field.inputValue()
  await look('device')
  await page.keyboard.press('Shift+Tab')
  await enter('BBBB-BBBB')
  await page.getByRole('alert').waitFor()
  await look('device-wrong')
  await enter(asked.user_code.toLowerCase().replace('-', ' '))
  await page.getByRole('button', { name: DECISION, exact: true }).waitFor()
  await look('device-consent')
  await press(DECISION)
  await page.getByRole('button', { name: DECISION, exact: true }).waitFor({ state: 'detached' })
  await look('device-done')
  await browser.close()
  return seen
}

const run = { 'openid-client': withOpenidClient, oauth4webapi: withOauth4webapi }[LIBRARY]
console.log(JSON.stringify({ ...(await run(person)), polls }))
