/**
 * The app on a desktop: the same core, in front of a camera and a network that follow a script.
 *
 * <p>It reads and writes the folder that the app has on a phone, so that the host's side can be tried against the code
 * that runs on phones. Nothing of it goes into the app.
 */
package org.dualpix.demo.desktop;
