plugins {
    alias(libs.plugins.android.application)
}

fun property(name: String): String = providers.gradleProperty("dualpix.$name").get()

android {
    namespace = "org.dualpix.demo.app"
    compileSdk = 36

    defaultConfig {
        applicationId = property("applicationId")
        minSdk = property("minSdk").toInt()
        targetSdk = property("targetSdk").toInt()
        versionCode = property("versionCode").toInt()
        versionName = property("versionName")
        resValue("string", "executorch", "executorch ${libs.versions.executorch.get()}")
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    buildFeatures {
        resValues = true
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.executorch.android)
}
